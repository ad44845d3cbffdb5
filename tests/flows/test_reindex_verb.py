"""`moeret reindex` from the command line: the plan and its reasons, the run, a kill in its middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moe_retrieval import Store
from tests.program import Run

HEART, SKIN, WINDOW = 40, 8, 8

# Encodes, notes how many, and on the third batch dies before these are written.
KILLED = f"""
import os, signal, sys
from moe_retrieval import Encoder, Moeret

encode, calls = Encoder.encode_document, []

def noting(self, texts, **options):
    vectors = encode(self, texts, **options)
    calls.append(len(texts))
    with open(sys.argv[1], "a") as log:
        log.write(f"{{len(texts)}}\\n")
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return vectors

Encoder.encode_document = noting
reindexer = Moeret.open().reindexer()
reindexer.window = {WINDOW}
reindexer.run()
"""


@pytest.fixture
def filled(moeret: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A store of two domains; the settings then name another length of texts, so that both are stale."""
    corpus = tmp_path / "corpus"
    for domain, size in (("heart", HEART), ("skin", SKIN)):
        (corpus / domain).mkdir(parents=True)
        for number in range(size):
            text = f"{domain} patient risk drug dose trial {number}. " * 4
            (corpus / domain / f"{number}.txt").write_text(text, "utf-8")
    assert moeret("index", "corpus", "-q").code == 0
    monkeypatch.setenv("MOERET_MAX_LENGTH", "24")
    return moeret


def live_of(folder: Path) -> int:
    live = Store.open(folder / "store").catalog.latest()
    assert live is not None
    return live.number


def test_the_plan_says_why_and_what_it_costs_and_changes_nothing(filled: Run, tmp_path: Path) -> None:
    done = filled("reindex", "--plan")
    assert done.code == 0
    head, heart, skin, total = done.out.splitlines()
    assert head.split() == ["domain", "why", "chunks", "to", "encode", "to", "reuse", "time", "size"]
    assert heart.split()[:6] == ["heart", "max", "length", "32", "->", "24"]
    assert skin.split()[:1] == ["skin"]
    assert "to encode, 0 to reuse; about" in total
    assert live_of(tmp_path) == 1


def test_the_plan_in_json_is_one_object_per_domain(filled: Run) -> None:
    heart, skin = filled("reindex", "--plan", "--json").records()
    assert (heart["domain"], skin["domain"]) == ("heart", "skin")
    assert heart["changes"] == [{"part": "max_length", "before": "32", "after": "24"}]
    assert (heart["stale"], heart["encode"], heart["reuse"]) == (True, heart["rows"], 0)
    assert 0 <= heart["seconds"] < 60
    assert heart["bytes"] > heart["rows"] * 4 * 32


def test_dry_run_is_the_plan(filled: Run, tmp_path: Path) -> None:
    domains = [one["domain"] for one in filled("reindex", "--dry-run", "--json").records()]
    assert domains == ["heart", "skin"]
    assert live_of(tmp_path) == 1


def test_a_run_ends_with_the_object_that_index_ends_with(filled: Run, tmp_path: Path) -> None:
    *plans, report = filled("reindex", "--json").records()
    again = filled("index", "corpus", "--json").records()[-1]
    assert report.keys() == again.keys()
    assert [plan["domain"] for plan in plans] == ["heart", "skin"] == list(report["domains"])
    assert report["encoded"] == report["chunks"] == sum(plan["rows"] for plan in plans)
    assert (report["generation"], again["encoded"]) == (2, 0)


def test_a_run_says_what_it_did(filled: Run) -> None:
    done = filled("reindex")
    assert done.out.splitlines()[-1].endswith("generation 2 is live")
    assert "2 domains" in done.out
    assert filled("reindex").out == "nothing is stale\n"


def test_one_domain_of_a_changed_model_is_not_reindexed_alone(filled: Run) -> None:
    done = filled("reindex", "--domain", "heart")
    assert done.code == 2
    assert "leaves every domain stale, also skin" in done.err


def test_documents_are_cut_anew_and_those_that_cannot_be_are_named(
    filled: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOERET_MAX_LENGTH")
    (tmp_path / "corpus" / "heart" / "3.txt").unlink()
    plan = filled("reindex", "--chunk-tokens", "20", "--plan", "-d", "heart")
    assert "chunking semchunk/30/7/1 -> semchunk/20/5/1" in plan.out
    done = filled("reindex", "--chunk-tokens", "20", "-d", "heart")
    assert done.code == 0
    assert "corpus/heart/3.txt: 1 document keeps its old chunks: the file is gone" in done.err
    assert "1 document kept old chunks" in done.err


def test_chunks_that_cannot_be_cut_are_refused(filled: Run) -> None:
    done = filled("reindex", "--chunk-tokens", "5")
    assert done.code == 2
    assert "a chunk of 5 tokens is too small" in done.err


def test_a_reindex_killed_in_its_middle_does_at_most_one_batch_twice(filled: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(log)], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert live_of(tmp_path) == 1
    plans = filled("reindex", "--plan", "--json").records()
    report = filled("reindex", "--json").records()[-1]
    encoded = sum(map(int, log.read_text("utf-8").split())) + report["encoded"]
    assert 0 < encoded - report["chunks"] <= WINDOW
    assert sum(plan["encode"] for plan in plans) == report["encoded"]
    assert sum(plan["reuse"] for plan in plans) == report["chunks"] - report["encoded"]
    assert json.loads(filled("query", "heart risk", "--json").out.splitlines()[0])


def test_queries_are_answered_from_the_old_tables_until_the_end(
    filled: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moe_retrieval import Moeret

    monkeypatch.delenv("MOERET_MAX_LENGTH")
    reader = Moeret.open()
    before = reader.query("heart risk", domains=["heart"])
    during: list[object] = []
    monkeypatch.setenv("MOERET_MAX_LENGTH", "24")
    Moeret.open().reindex(progress=lambda *_: during.append(reader.query("heart risk", domains=["heart"])))
    assert during
    assert all(answer.hits == before.hits for answer in during)
