"""Killed at any moment, `moeret index` goes on where it was: the store ends as that of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moe_retrieval import Moeret, Store
from moeret_cli.interruption import heeding
from tests.program import Run

WORDS = [
    "heart",
    "lung",
    "skin",
    "worm",
    "immune",
    "cell",
    "risk",
    "dose",
    "trial",
    "blood",
    "airway",
    "mole",
]
DOCUMENTS = 1_500

# A process started in the background may inherit that Ctrl-C is ignored: undo that first.
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from moeret_cli.app import main; main()"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of documents of several chunks each, in three domains."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    with path.open("w", encoding="utf8") as stream:
        for number in range(DOCUMENTS):
            text = " ".join(rng.choices(WORDS, k=rng.randint(10, 120)))
            record = {"_id": f"d{number}", "text": text, "domain": f"domain-{number % 3}", "year": number}
            stream.write(json.dumps(record) + "\n")
    return path


def start(corpus: Path | str, store: Path, model: Path) -> subprocess.Popen[bytes]:
    """A run of `moeret index`; its standard input is a pipe where the corpus is "-"."""
    environment = os.environ | {
        "MOERET_STORE": str(store),
        "MOERET_MODEL": str(model),
        "MOERET_PUBLISH_SECONDS": "0.3",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", PROGRAM, "index", str(corpus), "--domain-field", "domain", "--json"]
    pipe = subprocess.PIPE
    stdin = pipe if corpus == "-" else None
    return subprocess.Popen(command, env=environment, stdin=stdin, stdout=pipe, stderr=pipe)


def contents(store: Path) -> dict[str, list[tuple[str, int, int]]]:
    """Chunk id, document hash and number of parts of every row, by domain, sorted."""
    opened = Store.open(store)
    live = opened.catalog.latest()
    assert live is not None
    assert not live.partial
    found = {}
    for domain, entry in live.domains.items():
        rows = [
            (row["id"], row["doc_hash"], row["parts"])
            for batch in opened.view(entry).batches(("id", "doc_hash", "parts"))
            for row in batch.to_pylist()
        ]
        assert len({name for name, _, _ in rows}) == len(rows)
        found[domain] = sorted(rows)
    return found


@pytest.fixture(scope="module")
def undisturbed(
    corpus: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, list[tuple[str, int, int]]], float]:
    """The store of an undisturbed run, and how long that run took."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    started = time.monotonic()
    process = start(corpus, store, tiny_model)
    _out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return contents(store), time.monotonic() - started


def killed_and_rerun(
    corpus: Path,
    model: Path,
    folder: Path,
    undisturbed: tuple[dict[str, list[tuple[str, int, int]]], float],
    seed: int,
) -> None:
    expected, seconds = undisturbed
    store = folder / f"store-{seed}"
    process = start(corpus, store, model)
    time.sleep(random.Random(seed).uniform(0.2, 1.0) * seconds)
    process.kill()
    process.communicate()
    again = start(corpus, store, model)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    report = json.loads(out.splitlines()[-1])
    assert report["documents"] == DOCUMENTS
    assert report["unchanged"] + report["encoded"] > 0
    assert contents(store) == expected


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_run_is_completed_by_the_next(
    corpus: Path,
    tiny_model: Path,
    tmp_path: Path,
    undisturbed: tuple[dict[str, list[tuple[str, int, int]]], float],
    seed: int,
) -> None:
    killed_and_rerun(corpus, tiny_model, tmp_path, undisturbed, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_twenty_killed_runs_are_completed_by_the_next(
    corpus: Path,
    tiny_model: Path,
    tmp_path: Path,
    undisturbed: tuple[dict[str, list[tuple[str, int, int]]], float],
    seed: int,
) -> None:
    killed_and_rerun(corpus, tiny_model, tmp_path, undisturbed, seed)


@pytest.mark.parametrize(
    ("sent", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_keeps_what_was_published_and_says_how_to_go_on(
    corpus: Path, tiny_model: Path, tmp_path: Path, sent: signal.Signals, code: int, word: str
) -> None:
    """The run reads a pipe that stays open: however fast the machine, it is not done when it comes."""
    lines = corpus.read_bytes().splitlines(keepends=True)
    process = start("-", tmp_path / "store", tiny_model)
    assert process.stdin is not None
    fed = 0
    while process.poll() is None and not list((tmp_path / "store" / "catalog").glob("gen-*.json")):
        for line in lines[fed : fed + 50]:
            process.stdin.write(line)
        process.stdin.flush()
        fed += 50
        time.sleep(0.05)
    process.send_signal(sent)
    _out, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert f"{word}; what was published is kept, the same command goes on from there" in err.decode()
    again = start("-", tmp_path / "store", tiny_model)
    out, err = again.communicate(b"".join(lines[:fed]), timeout=300)
    assert again.returncode == 0, err
    report = json.loads(out.splitlines()[-1])
    assert report["documents"] == min(fed, DOCUMENTS)
    assert report["unchanged"] > 0
    assert sum(map(len, contents(tmp_path / "store").values())) == report["chunks"]


SLOW_TO_END = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from moeret_cli.interruption import heeding
from tests.program import Run

with heeding():
    try:
        sys.stdout.write("working\\n"); sys.stdout.flush()
        time.sleep(60)
    except KeyboardInterrupt:
        sys.stdout.write("ending\\n"); sys.stdout.flush()
        time.sleep(60)
"""


FINALISED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from moeret_cli.interruption import heeding

class Last:
    def __del__(self):
        signal.raise_signal(signal.Signals[sys.argv[1]])

with heeding() as heard:
    try:
        Last()
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(heard.exit_code)
"""


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_comes_while_an_object_is_finalised_is_not_lost(sent: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", FINALISED, sent], capture_output=True, timeout=50)
    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(first: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW_TO_END], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"working\n"
    process.send_signal(first)
    assert process.stdout.readline() == b"ending\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT


def test_a_signal_that_a_process_was_told_to_ignore_is_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with heeding() as heard:
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard.first == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_in_a_query_ends_it_with_143(moeret: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moeret, "query_many", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    done = moeret("query", "anything")
    assert (done.code, done.out, done.err) == (143, "", "moeret: terminated\n")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
