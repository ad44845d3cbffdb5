"""A filter matches in a real table exactly what it matches when read plainly, whatever its strings are.

In full, 20,000 trees and 2,000 strings, twenty minutes: `pytest -m slow` and this file.
"""

from __future__ import annotations

import string
from random import Random
from typing import TYPE_CHECKING

import pytest
from filter_fuzz import HOSTILE, means, random_metadata, random_tree
from storage_builders import DIM, rows_of, unit_vectors

from moe_retrieval.errors import FilterError
from moe_retrieval.filters import Field, OneOf, leaves, parse_filter
from moe_retrieval.storage.store import Store
from moe_retrieval.storage.tables.rows import to_batch
from moe_retrieval.storage.tables.view import TableView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.filters import Filter
    from moe_retrieval.types import MetaValue

ROWS = 40
KNOWN = ["Elsewhere"]


def documents(random: Random) -> list[Mapping[str, MetaValue]]:
    """Metadata by row; every field has every one of its kinds somewhere, so that no clause is a misfit."""
    every: list[Mapping[str, MetaValue]] = [{"mixed": kind} for kind in ("x", 1.0, True, ["x"])]
    every.append({"text": "x", "list": ["x"], "number": 1.0, "flag": True})
    return every + [random_metadata(random) for _ in range(ROWS - len(every))]


def filled(folder: object, metas: list[Mapping[str, MetaValue]]) -> TableView:
    store = Store.open(str(folder), create=True, durable=False)
    table = store.create_table("cvd", dim=DIM, fingerprint="space-one")
    rows = [
        rows_of(f"d{at}", ["aspirin"], title="BMJ" * (at % 2), metadata=meta)[0]
        for at, meta in enumerate(metas)
    ]
    table.write(to_batch(rows, unit_vectors(len(rows))))
    return TableView(store.place, name=table.name, version=table.version)


def matched(view: TableView, tree: Filter) -> list[int]:
    keys = view.matching(tree, known=KNOWN)
    return sorted(int(row["doc_id"][1:]) for row in view.fetch(keys, columns=["doc_id"]).to_pylist())


def expected(metas: list[Mapping[str, MetaValue]], tree: Filter) -> list[int]:
    return [at for at, meta in enumerate(metas) if means(tree, {**meta, "title": "BMJ" * (at % 2)})]


def compare_trees(folder: object, *, trees: int, seed: int) -> int:
    """Number of rows matched over all trees, so that a fuzz which matches nothing is noticed."""
    random = Random(seed)
    metas = documents(random)
    view = filled(folder, metas)
    total = 0
    for _ in range(trees):
        tree = random_tree(random)
        found = matched(view, tree)
        assert found == expected(metas, tree), repr(tree)
        total += len(found)
    return total


def hostile(random: Random) -> str:
    """A string of what breaks out of literals: quotes, escapes, comments, wild cards, any characters."""
    marks = ["'", "''", '"', "\\", "\\'", "--", "/*", "*/", ";", "%", "_", "\0", "\n", "\x1f", "`", "$1", "?"]
    words = [" OR 1=1", " UNION SELECT", "') OR ('1'='1", "é", "😀", "\u202e", "ſ", *HOSTILE]
    letters = list(string.printable)
    return "".join(
        random.choice(random.choice([marks, words, letters])) for _ in range(random.randint(1, 12))
    )


def foreign_rows(folder: object, *, strings: int, seed: int) -> int:
    """Rows that a filter on one string gave though they hold another, over all strings and ways to ask."""
    random = Random(seed)
    texts = list(dict.fromkeys(hostile(random) for _ in range(strings)))
    metas: list[Mapping[str, MetaValue]] = [
        {"text": text, "list": ["another member", text]} for text in texts[:ROWS]
    ]
    view = filled(folder, metas)
    foreign = 0
    for text in texts:
        own = {at for at, meta in enumerate(metas) if meta["text"] == text}
        plain = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        asked = [
            Field("text") == text,
            Field("list") == text,
            Field("text").in_([text]),
            Field("text").like(plain),
        ]
        asked += [parse_filter(str(asked[0])), Field("list").in_([text]), Field("list").like(plain)]
        for tree in asked:
            found = set(matched(view, tree))
            assert own <= found or "\x1f" in text, repr(tree)
            foreign += len(found - own)
        hits = view.search_text("aspirin", k=ROWS, where=asked[0])
        assert len(hits.keys) == len(own)
        foreign += _by_broken_text(view, f"text = '{text}'", own)
    return foreign


def _by_broken_text(view: TableView, written: str, own: set[int]) -> int:
    """A string pasted between quotes by a careless program: it is refused, or read as the language says."""
    try:
        tree = parse_filter(written)
        found = matched(view, tree)
    except FilterError:
        return 0
    metas = view.fetch(view.key_vh()[0], columns=["doc_id", "s_text"]).to_pylist()
    meant = {int(row["doc_id"][1:]) for row in metas if means(tree, {"text": row["s_text"]})}
    return len(set(found) - meant)


def test_a_random_filter_written_and_read_back_means_the_same() -> None:
    random = Random(4)
    metas = [{**meta, "doc_id": "d"} for meta in documents(random)]
    trees = [tree for tree in (random_tree(random) for _ in range(600)) if not _mixes_values(tree)]
    assert len(trees) > 300
    for tree in trees:
        again = parse_filter(str(tree))
        assert [means(again, meta) for meta in metas] == [means(tree, meta) for meta in metas], str(tree)


def _mixes_values(tree: Filter) -> bool:
    """Whether an `in` lists texts beside days: the language wants values of one type."""
    listed = [leaf.values for leaf in leaves(tree) if isinstance(leaf, OneOf)]
    return any(len({type(value) for value in values}) > 1 for values in listed)


def test_random_filters_match_what_they_mean(tmp_path: object) -> None:
    assert compare_trees(tmp_path, trees=250, seed=1) > 1_000


def test_hostile_strings_match_no_foreign_row(tmp_path: object) -> None:
    assert foreign_rows(tmp_path, strings=45, seed=2) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_twenty_thousand_random_filters_match_what_they_mean(tmp_path: object, seed: int) -> None:
    assert compare_trees(tmp_path, trees=1_000, seed=100 + seed) > 4_000


@pytest.mark.slow
def test_two_thousand_hostile_strings_match_no_foreign_row(tmp_path: object) -> None:
    assert foreign_rows(tmp_path, strings=2_000, seed=3) == 0
