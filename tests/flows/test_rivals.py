"""Four processes write the same ids at once: no row is there twice, and none is lost.

The long form, 500 upserts each (half an hour on two cores):
    pytest -m slow tests/flows/test_rivals.py
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from moe_retrieval import Document, Moeret, Store
from moe_retrieval.settings import load_settings
from moe_retrieval.storage.tables.table import Table
from moe_retrieval.storage.tables.view import TableView
from tests.program import ROOT

NAMES = ("a", "b", "c", "d")
MOST_FRAGMENTS = 24


@dataclass(frozen=True)
class Acknowledged:
    """One upsert that a rival was told is done."""

    writer: str
    doc: str
    text: str
    generation: int


@pytest.fixture
def store(tmp_path: Path, tiny_model: Path) -> Path:
    """A store with a few documents, so that no rival has to make it."""
    place = tmp_path / "store"
    with Moeret.open(place, settings=load_settings(model=str(tiny_model)).values) as moeret:
        moeret.index_documents([Document(f"first-{at}", f"heart {at}") for at in range(20)], domain="cvd")
    return place


def compete(store: Path, model: Path, turns: int, *past_the_lease: str) -> list[Acknowledged]:
    """What four rivals were told is done, in the order of each."""
    command = [sys.executable, "-m", "tests.flows.rival", str(store), str(model)]
    rivals = [
        subprocess.Popen(
            [*command, name, str(turns), *past_the_lease], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for name in NAMES
    ]
    heard = [rival.communicate()[0].splitlines() for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0] * len(NAMES)
    return [
        Acknowledged(name, doc, text, int(generation))
        for name, lines in zip(NAMES, heard, strict=True)
        for doc, text, generation in (line.split("\t") for line in lines)
    ]


def texts_of(view: TableView) -> dict[str, str]:
    """Text of every document; each is one row, and has to be there once."""
    rows = [row for batch in view.batches(["key", "doc_id", "content"]) for row in batch.to_pylist()]
    assert Counter(row["key"] for row in rows).most_common(1)[0][1] == 1
    assert len({row["doc_id"] for row in rows}) == len(rows)
    return {row["doc_id"]: row["content"] for row in rows}


def last_words(done: list[Acknowledged]) -> dict[str, set[str]]:
    """By id, the text each of its writers wrote last."""
    return {
        doc: {[one.text for one in done if (one.doc, one.writer) == (doc, name)][-1] for name in writers}
        for doc, writers in (
            (one.doc, {other.writer for other in done if other.doc == one.doc}) for one in done
        )
    }


def upsert(store: Path, model: Path, turns: int) -> None:
    done = compete(store, model, turns)
    assert len(done) == len(NAMES) * turns
    assert len({one.generation for one in done}) == len(done)  # each was published by itself
    opened = Store.open(store)
    live = opened.catalog.latest()
    assert live is not None
    view = opened.view(live.domains["cvd"])
    found = texts_of(view)
    newest = {one.doc: one.text for one in sorted(done, key=lambda one: one.generation)}
    assert found == newest | {f"first-{at}": f"heart {at}" for at in range(20)}
    assert len(view.dataset.get_fragments()) <= MOST_FRAGMENTS


def write_past_the_lease(store: Path, model: Path, turns: int) -> None:
    done = compete(store, model, turns, "tables")
    place = Store.open(store).place
    found = texts_of(TableView(place, name="d_cvd.g1", version=Table(place, name="d_cvd.g1").version))
    for doc, words in last_words(done).items():
        assert found[doc] in words
    assert len(found) == 20 + len({one.doc for one in done})


def test_rivals_lose_and_double_nothing(store: Path, tiny_model: Path) -> None:
    upsert(store, tiny_model, 4)


def test_rivals_past_the_lease_lose_and_double_nothing(store: Path, tiny_model: Path) -> None:
    write_past_the_lease(store, tiny_model, 8)


@pytest.mark.slow
def test_rivals_lose_and_double_nothing_in_five_hundred_turns_each(store: Path, tiny_model: Path) -> None:
    upsert(store, tiny_model, 500)


@pytest.mark.slow
def test_rivals_past_the_lease_lose_and_double_nothing_in_five_hundred_turns_each(
    store: Path, tiny_model: Path
) -> None:
    write_past_the_lease(store, tiny_model, 500)
