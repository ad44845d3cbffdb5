"""history, rollback, gc and domains rename as a user runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_retrieval import Store
from tests.program import Run


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "cvd").mkdir(parents=True)
    (folder / "derma").mkdir()
    (folder / "cvd" / "aspirin.txt").write_text("aspirin lowers the risk of a heart attack")
    (folder / "derma" / "sun.txt").write_text("sun and skin")
    return folder


@pytest.fixture
def three(moeret: Run, corpus: Path) -> Run:
    """A store of three generations: each run brings one document more."""
    for number in range(3):
        (corpus / "cvd" / f"more-{number}.txt").write_text(f"stroke and blood pressure, part {number}")
        assert moeret("index", str(corpus)).code == 0
    return moeret


def numbers(done_out: str) -> list[str]:
    return [line.split()[0] for line in done_out.splitlines()[1:]]


def test_history_lists_what_there_is(three: Run) -> None:
    done = three("history")
    assert done.code == 0
    assert numbers(done.out) == ["1", "2", "3"]
    newest = done.out.splitlines()[-1]
    assert "index" in newest
    assert "cvd 4, derma 1" in newest
    assert newest.endswith("live")
    records = three("history", "--json").records()
    assert [(record["number"], record["live"], record["possible"]) for record in records] == [
        (1, False, True),
        (2, False, True),
        (3, True, True),
    ]
    assert records[0]["domains"] == {"cvd": 2, "derma": 1}


def test_rollback_goes_back_and_the_next_index_goes_on_from_there(three: Run, corpus: Path) -> None:
    done = three("rollback", "1", "--dry-run")
    assert done.out == (
        "generation 1 is sound and would be live again instead of 3; chunks: cvd 2, derma 1\n"
    )
    assert numbers(three("history").out) == ["1", "2", "3"]
    done = three("rollback", "1")
    assert (done.code, done.out) == (
        0,
        "generation 4 is live with the content of 1; chunks: cvd 2, derma 1\n",
    )
    assert "part 2" not in three("query", "stroke and blood pressure").out
    report = three("index", str(corpus), "--json").records()[-1]
    assert (report["unchanged"], report["encoded"]) == (3, 2)
    assert "part 2" in three("query", "stroke and blood pressure").out


def test_rollback_says_what_cannot_be(three: Run) -> None:
    assert three("gc", "--keep", "1").code == 0
    done = three("rollback", "1")
    assert done.code == 3
    assert done.err == (
        "moeret: error: there is no generation 1\n        next: the catalog holds generations [3]\n"
    )
    done = three("rollback", "3")
    assert done.code == 2
    assert "generation 3 holds what is live" in done.err


def test_rollback_in_json_has_stable_keys(three: Run) -> None:
    (record,) = three("rollback", "--json").records()
    assert record == {
        "before": 3,
        "target": 2,
        "generation": 4,
        "domains": {"cvd": 3, "derma": 1},
        "dry_run": False,
    }


def test_gc_frees_what_old_generations_took(three: Run, tmp_path: Path) -> None:
    before = sum(path.stat().st_size for path in (tmp_path / "store").rglob("*") if path.is_file())
    said = three("gc", "--keep", "1", "--dry-run")
    assert said.code == 0
    assert "would be freed; generations kept: 3" in said.out
    done = three("gc", "--keep", "1")
    assert done.code == 0
    assert "generation" in done.out
    assert done.out.endswith("freed; generations kept: 3\n")
    after = sum(path.stat().st_size for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert after < before
    assert three("query", "aspirin").code == 0
    assert three("doctor").code == 0
    again = three("gc", "--keep", "1", "--json").records()[0]
    assert (again["removed"], again["generations"]) == ([], [3])


def test_gc_keeps_at_least_one_generation(three: Run) -> None:
    done = three("gc", "--keep", "0")
    assert done.code == 2
    assert "keep at least the newest generation" in done.err


def test_verbose_gc_names_all_that_went(three: Run) -> None:
    done = three("gc", "--keep", "2", "--verbose")
    assert "moeret: removed generation 1, " in done.err


def test_what_reads_the_store_is_named_and_spared(three: Run, tmp_path: Path) -> None:
    from moe_retrieval.storage.maintenance.readers import Readers

    store = Store.open(tmp_path / "store")
    with Readers(store.place).hold(store.catalog.read(1)):
        done = three("gc", "--keep", "1")
    assert "moeret: kept: generation 1: read by process " in done.err
    assert done.out.endswith("generations kept: 1, 3\n")


def test_a_domain_gets_another_name(three: Run, corpus: Path) -> None:
    assert three("domains", "rename", "cvd", "heart", "--dry-run").out == (
        "domain cvd (4 documents) would be called heart\n"
    )
    done = three("domains", "rename", "cvd", "heart")
    assert (done.code, done.out) == (0, "domain cvd (4 documents) is called heart; generation 4 is live\n")
    assert "rename the folder, or index with --domain heart" in done.err
    assert "heart" in three("domains", "list").out
    wrong = three("query", "aspirin", "--domain", "heard")
    assert (wrong.code, "did you mean 'heart'?" in wrong.err) == (3, True)
    (corpus / "cvd").rename(corpus / "heart")
    assert three("query", "aspirin", "--domain", "heart").code == 0


def test_a_name_that_is_taken_is_refused(three: Run) -> None:
    done = three("domains", "rename", "cvd", "derma")
    assert done.code == 2
    assert done.err == (
        "moeret: error: there is a domain 'derma' already\n"
        "        next: to join them, index the documents of cvd with --domain derma\n"
    )


@pytest.mark.parametrize("verb", ["history", "rollback", "gc"])
def test_without_a_store_the_next_step_is_to_make_one(moeret: Run, verb: str) -> None:
    done = moeret(verb)
    assert done.code == 3
    assert "there is no store at" in done.err
    assert "moeret index PATH --store" in done.err
