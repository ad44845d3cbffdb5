"""The command line on `--store s3://bucket/prefix`: the same answers and the same guarantees as a folder.

Twenty kills at random moments: `pytest -m slow tests/flows/test_object_storage.py`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moe_retrieval import Document, Moeret, Store
from moe_retrieval.model import surgery
from moe_retrieval.settings import Settings
from moe_retrieval.types import Precision
from tests.object_server import SECRET, ObjectServer, moto_server, prefix_for, use
from tests.program import Done, Run, run_moeret
from tests.tiny_model import different

if TYPE_CHECKING:
    from collections.abc import Iterator

INDEX = ("index", "-", "--domain-field", "domain", "--json")
PROGRAM = "from moeret_cli.app import main; main()"
DOMAINS = {"hearts": "heart attack aspirin blood pressure risk", "skins": "skin mole tumour sun light fever"}


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with moto_server() as running:
        running.make_bucket("shelf")
        yield running


@dataclass(frozen=True)
class Shelved:
    """A store in a bucket that a few tests read, and what it answers where it was written."""

    server: ObjectServer
    url: str
    answers: list[list[tuple[str, float]]]

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use(self.server, monkeypatch)
        monkeypatch.setenv("MOERET_STORE", self.url)


@pytest.fixture(scope="module")
def shelved(server: ObjectServer, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Shelved:
    folder, place = tmp_path_factory.mktemp("shelved"), "s3://shelf/team/shelved"
    with pytest.MonkeyPatch.context() as patch:
        use(server, patch)
        for name, value in {"STORE": place, "MODEL": tiny_model, "ENGINE": "torch", "CACHE": folder}.items():
            patch.setenv(f"MOERET_{name}", str(value))
        done = run_moeret("index", str(write_documents(folder / "documents")))
        assert done.code == 0, done.err
        return Shelved(server, place, answers(run_moeret))


@pytest.fixture
def url(
    server: ObjectServer,
    moeret: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> str:
    """A place of its own in a bucket: the store of every run of the program in this test."""
    use(server, monkeypatch)
    place = f"s3://shelf/team/{prefix_for(request)}"
    monkeypatch.setenv("MOERET_STORE", place)
    move_to("here", monkeypatch, tmp_path)
    return place


def move_to(machine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Go on as if on another machine: nothing of the store is there yet."""
    cache = tmp_path / "machines" / machine
    monkeypatch.setenv("MOERET_CACHE", str(cache))
    return cache


def write_documents(folder: Path, *, each: int = 6) -> Path:
    for domain, words in DOMAINS.items():
        (folder / domain).mkdir(parents=True)
        for number in range(each):
            order = words.split()[number:] + words.split()[:number]
            (folder / domain / f"{number}.txt").write_text(" ".join(order), "utf8")
    return folder


def lines_of(count: int, *, start: int = 0) -> bytes:
    """Documents as JSON lines, in two domains."""
    kinds = list(DOMAINS.items())
    numbered = [(number, *kinds[number % 2]) for number in range(start, start + count)]
    records = [{"_id": f"d{at}", "text": f"{words} {at}", "domain": name} for at, name, words in numbered]
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


def answers(moeret: Run) -> list[list[tuple[str, float]]]:
    """Ids and scores of the hits of a few queries."""
    everywhere = [word for domain in DOMAINS for word in ("--domain", domain)]
    found = [moeret("query", query, "--json", *everywhere) for query in ("heart attack", "skin mole")]
    assert all(done.code == 0 for done in found), found
    return [[(hit["chunk_id"], round(hit["score"], 6)) for hit in hits(done)] for done in found]


def hits(done: Done) -> list[dict[str, Any]]:
    return [record for record in done.records() if "score" in record]


def test_a_store_in_a_bucket_is_written_and_read_like_a_folder(
    url: str, moeret: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = write_documents(tmp_path / "documents")
    first = moeret("index", str(documents), "--json")
    assert first.code == 0, first.err
    assert first.records()[-1]["encoded"] == 12
    again = moeret("index", str(documents), "--json")
    assert (again.records()[-1]["encoded"], again.records()[-1]["unchanged"]) == (0, 12)
    here = answers(moeret)
    folder = moeret("index", str(documents), "--store", str(tmp_path / "store"), "--json")
    assert folder.code == 0, folder.err
    with monkeypatch.context() as patch:
        patch.setenv("MOERET_STORE", str(tmp_path / "store"))
        assert answers(moeret) == here
    status = moeret("status", "--json").records()[0]
    assert status["store"] == url
    assert [domain["index"]["engine"] for domain in status["domains"]] == ["faiss", "faiss"]
    assert "heart" in moeret("context", "heart attack", "--domain", "hearts").out
    for verb in (["doctor"], ["reindex"]):
        done = moeret(*verb)
        assert done.code == 0, done.out + done.err


def test_what_a_change_did_is_rolled_back_and_collected(url: str, moeret: Run, tmp_path: Path) -> None:
    documents = write_documents(tmp_path / "documents")
    moeret("index", str(documents))
    before = answers(moeret)
    (documents / "hearts" / "0.txt").write_text("stroke " * 9, "utf8")
    moeret("index", str(documents))
    assert answers(moeret) != before
    rolled_back = moeret("rollback")
    assert rolled_back.code == 0, rolled_back.err
    assert answers(moeret) == before
    assert "rollback to 1" in moeret("history").out
    place = Store.open(url, cache=tmp_path).place
    for name in ("gen-00000001.json", "gen-00000002.json"):
        assert name in place.names("catalog")
    collected = moeret("gc", "--keep", "1")
    assert collected.code == 0, collected.err
    assert answers(moeret) == before


def test_another_machine_sees_the_same_answers(
    shelved: Shelved, moeret: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelved.use(monkeypatch)
    there = move_to("there", monkeypatch, tmp_path)
    assert answers(moeret) == shelved.answers
    fetched = {path.suffix for path in there.rglob("*") if path.is_file()}
    assert {".faiss", ".safetensors"} <= fetched


def test_the_expert_of_a_domain_comes_with_the_store(
    url: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = different(surgery.upcycle(tiny_model), "joint")
    pack = tmp_path / "packs" / surgery.export_expert(model, "joint", tmp_path / "packs")
    settings = Settings(model=str(tiny_model), precision=Precision.FP32, cache=tmp_path / "here")
    with Moeret.open(url, settings=settings) as here:
        here.register_expert("joint", pack)
        here.index_documents([Document(f"j{at}", f"joint pain {at}") for at in range(9)], domain="joint")
        expected = here.query("joint pain 3", domains=["joint"], mode="vector").hits
    shutil.rmtree(tmp_path / "packs")
    elsewhere = settings.model_copy(update={"cache": tmp_path / "there"})
    with Moeret.open(url, settings=elsewhere) as there:
        assert there.query("joint pain 3", domains=["joint"], mode="vector").hits == expected
        assert there.status().domains[0].expert == pack.name
    weights = [path for path in (tmp_path / "there").rglob("*.safetensors") if path.parent.name == pack.name]
    assert len(weights) == 1


def test_a_flipped_copy_is_never_searched(
    shelved: Shelved, moeret: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelved.use(monkeypatch)
    here = move_to("here", monkeypatch, tmp_path)
    answers(moeret)
    copies = sorted(here.rglob("*.faiss"))
    assert len(copies) == 2
    sound = [path.read_bytes() for path in copies]
    for path, data in zip(copies, sound, strict=True):
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 64]) + data[-8:])
    assert answers(moeret) == shelved.answers
    assert [path.read_bytes() for path in copies] == sound


def test_a_file_damaged_in_the_bucket_is_built_again(
    url: str, moeret: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moeret("index", str(write_documents(tmp_path / "documents")))
    expected = answers(moeret)
    place = Store.open(url, cache=tmp_path / "another").place
    for name in place.names("indexes"):
        if name.endswith(".faiss"):
            place.replace(f"indexes/{name}", b"\0" * place.size(f"indexes/{name}"))
    move_to("there", monkeypatch, tmp_path)
    assert answers(moeret) == expected
    scrubbed = moeret("doctor", "--scrub")
    assert scrubbed.code == 1
    assert "indexes/" in scrubbed.out
    repaired = moeret("doctor", "--scrub", "--repair")
    assert repaired.code == 0, repaired.out + repaired.err
    move_to("elsewhere", monkeypatch, tmp_path)
    assert moeret("doctor", "--scrub").code == 0
    assert answers(moeret) == expected


def test_a_second_writer_is_refused_or_waits(url: str, moeret: Run, tmp_path: Path) -> None:
    documents = write_documents(tmp_path / "documents", each=1)
    with Store.open(url, create=True, cache=tmp_path).lease():
        refused = moeret("index", str(documents))
        assert refused.code == 1
        assert f"another writer holds the store: process {os.getpid()} on" in refused.err
    held, done = threading.Event(), threading.Event()

    def write_for_a_while() -> None:
        with Store.open(url, cache=tmp_path).lease():
            held.set()
            done.wait(60)

    thread = threading.Thread(target=write_for_a_while)
    thread.start()
    assert held.wait(60)
    threading.Timer(0.5, done.set).start()
    waited = moeret("index", str(documents), "--wait", "60")
    assert waited.code == 0, waited.err
    thread.join()


def test_killed_while_it_writes_a_run_is_completed_by_the_next(
    url: str, moeret: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The killed run reads a pipe that stays open, so it holds the lease when the kill comes."""
    monkeypatch.setenv("MOERET_PUBLISH_SECONDS", "0.1")
    with start_indexing() as killed:
        assert killed.stdin is not None
        store = Store.open(url, create=True, cache=tmp_path)
        fed = 0
        while killed.poll() is None and store.catalog.latest() is None:
            killed.stdin.write(lines_of(64, start=fed))
            killed.stdin.flush()
            fed += 64
            time.sleep(0.1)
        assert killed.poll() is None
        refused = moeret(*INDEX)
        assert f"process {killed.pid} on" in refused.err
        killed.kill()
    published = store.catalog.latest()
    assert published is not None
    done = moeret(*INDEX, stdin=lines_of(fed))
    assert done.code == 0, done.err
    report = done.records()[-1]
    assert report["documents"] == fed
    assert report["unchanged"] >= sum(entry.documents for entry in published.domains.values()) > 0
    assert_each_document_once(store, fed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_any_moment_a_run_is_completed_by_the_next(
    url: str, moeret: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """From its first object on to beyond its end: the pipe stays open, so the run cannot end before."""
    monkeypatch.setenv("MOERET_PUBLISH_SECONDS", "0.1")
    documents = 600
    store = Store.open(url, create=True, cache=tmp_path)
    with start_indexing() as killed:
        assert killed.stdin is not None
        killed.stdin.write(lines_of(documents))
        killed.stdin.flush()
        while killed.poll() is None and "lock" not in store.place.names(""):
            time.sleep(0.1)
        time.sleep(random.Random(seed).uniform(0, 6))
        killed.kill()
    published = store.catalog.latest()
    held = sum(entry.documents for entry in published.domains.values()) if published else 0
    done = moeret(*INDEX, stdin=lines_of(documents))
    assert done.code == 0, done.err
    assert done.records()[-1]["unchanged"] >= held
    assert_each_document_once(store, documents)


def start_indexing() -> subprocess.Popen[bytes]:
    """A run of the program that indexes what comes through its standard input."""
    command, pipe = [sys.executable, "-c", PROGRAM, *INDEX], subprocess.PIPE
    return subprocess.Popen(command, env={**os.environ}, stdin=pipe, stdout=pipe, stderr=pipe)


def assert_each_document_once(store: Store, documents: int) -> None:
    generation = store.catalog.latest()
    assert generation is not None
    assert not generation.partial
    views = [store.view(entry) for entry in generation.domains.values()]
    keys = [key for view in views for key in view.key_vh()[0].tolist()]
    assert len(keys) == len(set(keys)) == documents


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"MOERET_STORE": "s3://nowhere/x"}, "there is no such bucket"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "the server did not answer"),
        ({"MOERET_STORE": "s3://shelf/nothing"}, "there is no store at s3://shelf/nothing"),
        ({"AWS_ENDPOINT_URL": "127.0.0.1"}, "AWS_ENDPOINT_URL is no URL"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_a_sentence_and_a_next_step(
    url: str, moeret: Run, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], words: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    done = moeret("query", "heart")
    assert done.code in (1, 2, 3)
    assert words in done.err
    assert "next: " in done.err
    assert SECRET not in done.out + done.err
