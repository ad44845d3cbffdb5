"""A file of a store is gone, cut short, or has a bit flipped: what query, index and doctor say and do.

Long form, every kind of file with every kind of damage: pytest -m slow tests/flows/test_bad_days.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from moe_retrieval import Moeret, Store
from moe_retrieval.model import surgery
from moe_retrieval.settings import Settings
from moe_retrieval.storage.catalog import name_of
from moe_retrieval.storage.indexes import sidecar
from moe_retrieval.storage.tables import sums
from tests.program import Done, Run
from tests.tiny_model import different


@dataclass(frozen=True)
class Kind:
    """What a command ends with when a file of this kind is lost, and what is said. None: either 0 or 1."""

    query: int | None
    index: int | None
    doctor: int
    said: str = ""


TABLE = Kind(query=1, index=1, doctor=1, said="could not (open|read|search)|ends at version")
KINDS = {
    "manifest": TABLE,
    "rows": Kind(query=None, index=1, doctor=1, said="could not (open|read|search)"),
    "deletions": TABLE,
    "text index": Kind(query=0, index=0, doctor=1, said="searched by vector only"),
    "generation": Kind(query=None, index=None, doctor=1),
    "checksums": Kind(query=0, index=0, doctor=1),
    "router": Kind(query=0, index=0, doctor=1, said="all domains are searched"),
    "expert": Kind(query=1, index=1, doctor=1, said="expert"),
    "card": Kind(query=1, index=1, doctor=1, said="the card of the expert pack"),
    "vector index": Kind(query=0, index=0, doctor=1, said="is rebuilt"),
    "rows of the vector index": Kind(query=0, index=0, doctor=1, said="is rebuilt"),
    "side-car": Kind(query=0, index=0, doctor=1),
    "marker": Kind(query=1, index=1, doctor=1, said="store.json"),
    "secret": Kind(query=1, index=None, doctor=1, said="secret is missing or damaged"),
}
ALL = [(kind, damage) for kind in KINDS for damage in ("gone", "cut", "flipped")]
SHORT = [(kind, ("gone", "cut", "flipped")[at % 3]) for at, kind in enumerate(KINDS)]
CASES = [pytest.param(*one, marks=[] if one in SHORT else [pytest.mark.slow]) for one in ALL]
WITHOUT_TRACE = {("side-car", "gone")}
"""An index without its description is none: it is built again, and nothing tells that there was one."""


@pytest.fixture(scope="module")
def original(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source files and their store: an expert of its own for one domain, rows deleted, three generations."""
    home = tmp_path_factory.mktemp("bad-days")
    for domain in ("cvd", "skin"):
        (home / "docs" / domain).mkdir(parents=True)
        for at in range(24):
            (home / "docs" / domain / f"{domain}{at}.txt").write_text(f"{domain} heart mole {at}")
    model = different(surgery.upcycle(tiny_model), "cvd")
    pack = home / surgery.export_expert(model, "cvd", home)
    with Moeret.open(home / "store", settings=Settings(model=str(tiny_model))) as moeret:
        moeret.index(home / "docs")
        moeret.register_expert("cvd", pack)
        moeret.reindex()
        (home / "docs" / "cvd" / "cvd0.txt").write_text("another artery")
        moeret.index(home / "docs")
    return home


@pytest.fixture
def day(original: Path, tmp_path: Path, moeret: Run) -> Run:
    """The program on a copy of the store."""
    shutil.copytree(original / "store", tmp_path / "store")
    return moeret


def file_of(folder: Path, kind: str) -> str:
    """A file of this kind that the live generation needs, by its name in the store."""
    store = Store.open(folder)
    live = store.catalog.latest()
    assert live is not None
    entry = live.domains["cvd"]
    index = next(one for one in sidecar.read_all(store.indexes_dir) if one.digest == entry.digest)
    parts = {"manifest": "_versions", "rows": "data", "deletions": "_deletions", "text index": "_indices"}
    if kind in parts:
        return next(name for name in sums.read(store.place, entry.sums).files if f"/{parts[kind]}/" in name)
    return {
        "generation": name_of(live.number),
        "checksums": sums.name_of(entry.sums),
        "router": f"routers/{live.router}.safetensors",
        "expert": f"experts/{entry.expert}/expert.safetensors",
        "card": f"experts/{entry.expert}/card.json",
        "vector index": f"indexes/{index.name}{sidecar.INDEX}",
        "rows of the vector index": f"indexes/{index.name}{sidecar.ROWS}",
        "side-car": f"indexes/{index.name}.json",
        "marker": "store.json",
        "secret": "secret",
    }[kind]


def harm(path: Path, damage: str) -> None:
    data, middle = path.read_bytes(), path.stat().st_size // 2
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[:middle])
    else:
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :])


def ended_well_or_with_a_sentence(done: Done, code: int | None) -> None:
    assert "Traceback" not in done.err
    assert done.code in ((0, 1) if code is None else (code,)), done
    if done.code:
        assert "moeret: error: " in done.err
        assert "next: " in done.err


@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_every_command_says_what_is_wrong(
    day: Run, original: Path, tmp_path: Path, kind: str, damage: str
) -> None:
    folder, expected = tmp_path / "store", KINDS[kind]
    name = file_of(folder, kind)
    unseen = damage == "flipped" or kind in ("generation", "side-car")

    def harmed(*words: str) -> Done:
        shutil.rmtree(folder)
        shutil.copytree(original / "store", folder)
        harm(folder / name, damage)
        return day(*words)

    scrubbed = harmed("doctor", "--scrub", "--json")
    wrong = [one for one in scrubbed.records() if one["level"] != "ok"]
    if (kind, damage) not in WITHOUT_TRACE:
        assert scrubbed.code == expected.doctor
        assert any(name in one["message"] or "generation is missing" in one["message"] for one in wrong)
        assert all(one["cure"] for one in wrong)
    queried = harmed("query", "heart", "--domain", "cvd")
    ended_well_or_with_a_sentence(queried, None if unseen else expected.query)
    if not unseen and expected.said and expected.query is not None:
        assert re.search(expected.said, queried.err), queried.err
    (original / "docs" / "cvd" / "new.txt").write_text("a new text")
    try:
        indexed = harmed("index", str(original / "docs"))
    finally:
        (original / "docs" / "cvd" / "new.txt").unlink()
    ended_well_or_with_a_sentence(indexed, None if unseen else expected.index)


DERIVED = ("text index", "checksums", "router", "vector index", "rows of the vector index", "side-car")


@pytest.mark.parametrize("kind", DERIVED)
def test_a_repair_makes_again_what_is_derived(day: Run, tmp_path: Path, kind: str) -> None:
    harm(tmp_path / "store" / file_of(tmp_path / "store", kind), "flipped")
    assert day("doctor", "--scrub", "-q").code == 1
    done = day("doctor", "--scrub", "--repair", "--json")
    assert done.code == 0, done
    assert any(one["subject"] == "repair" for one in done.records())
    assert day("query", "heart", "--domain", "cvd").err == ""


# --- a store that cannot be written


@pytest.fixture
def read_only(original: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The program where the store is mounted so that nobody, not even root, can write to it."""
    folder = tmp_path / "sealed"
    shutil.copytree(original / "store", folder)
    sealed = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", sealed, "sh", str(folder)]
    try:
        subprocess.run([*words, "true"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no folder can be mounted read-only here: {error}")

    def run(*said: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "moeret_cli", *said, "--store", str(folder)]
        return subprocess.run([*words, *program], capture_output=True, text=True, timeout=120, env=os.environ)

    return run


def test_a_read_only_store_is_queried_and_nothing_else(
    read_only: Callable[..., subprocess.CompletedProcess[str]], original: Path, moeret: Run
) -> None:
    queried = read_only("query", "heart", "--json")
    assert (queried.returncode, queried.stderr) == (0, "")
    assert '"domain": "cvd"' in queried.stdout
    indexed = read_only("index", str(original / "docs"))
    assert indexed.returncode == 1
    assert "permission denied" in indexed.stderr
    assert "next: check who owns the store's folder" in indexed.stderr
