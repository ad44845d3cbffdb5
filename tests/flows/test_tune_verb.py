"""`moeret tune` and `moeret evaluate --retrieval`: what they print, save and refuse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.program import Run

CODES = [f"zq{number}x" for number in range(60)]


@pytest.fixture
def folder(tmp_path: Path, moeret: Run) -> Path:
    """A collection whose queries name one word of one document, indexed."""
    folder = tmp_path / "judged"
    folder.mkdir()
    sides = (("cvd", "heart blood pressure"), ("skin", "skin sun mole"))
    corpus, queries = [], []
    for at, code in enumerate(CODES):
        domain, words = sides[at % 2]
        corpus.append({"_id": f"d{at}", "text": f"{words} {code} drug dose", "domain": domain})
        queries.append({"_id": f"q{at}", "text": f"trial of {code} in pain", "domain": domain})
    for name, records in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    judged = "".join(f"q{at}\td{at}\t1\n" for at in range(len(CODES)))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    assert moeret("index", folder / "corpus.jsonl", "--domain-field", "domain").code == 0
    return folder


def test_tuning_says_what_it_gains_and_is_a_generation_that_can_be_rolled_back(
    moeret: Run, folder: Path
) -> None:
    dry = moeret("tune", folder, "--dry-run")
    assert dry.code == 0, dry.err
    assert "nothing was saved: --dry-run" in dry.out
    done = moeret("tune", folder, "--json")
    (told,) = done.records()
    assert list(told) == [
        "source", "queries", "held", "tuning", "calibration", "trials", "generation", "warnings",
    ]  # fmt: skip
    assert told["trials"][0]["kept"]
    assert told["trials"][0]["test"]["low"] > 0
    assert told["generation"] == 2
    again = moeret("tune", folder)
    assert "the store is as it was" in again.out
    assert moeret("rollback").code == 0
    assert moeret("tune", folder, "--json").records()[0]["generation"] == 4


def test_the_answers_of_a_store_are_judged_by_way(moeret: Run, folder: Path) -> None:
    done = moeret("evaluate", "--retrieval", folder, "--samples", "20", "--trec-out", folder / "runs")
    assert done.code == 0, done.err
    assert "what each way costs" in done.out
    assert {"judged.oracle.trec", "judged.routed.trec", "judged.all.trec"} == {
        one.name for one in (folder / "runs").iterdir()
    }
    (told,) = moeret("evaluate", "--retrieval", folder, "--samples", "20", "--json").records()
    assert told["models"] == ["oracle", "routed", "all"]
    assert [one["way"] for one in told["costs"]] == told["models"]


def test_judging_a_store_goes_with_nothing_else(moeret: Run, folder: Path) -> None:
    done = moeret("evaluate", "bundled", "--retrieval", folder)
    assert done.code == 2
    assert "judges the store as it is" in done.err


def test_a_folder_that_cannot_be_used_gets_a_sentence(moeret: Run, folder: Path, tmp_path: Path) -> None:
    done = moeret("tune", tmp_path / "nowhere")
    assert done.code == 2
    assert "there is no folder" in done.err
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    assert "too few" in moeret("tune", folder).err
