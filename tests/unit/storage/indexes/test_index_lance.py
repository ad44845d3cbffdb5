"""LanceDB's own index: part of the table's version, measured when built, and no row is missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from index_builders import COUNT, QUERIES, keys_of, large_table, recall, truth, write
from storage_builders import published

from moe_retrieval.storage.index import build_index, index_info, open_index
from moe_retrieval.storage.indexes import lance_build
from moe_retrieval.storage.indexes.lance_build import ensure_lance_index, setting_of, unindexed
from moe_retrieval.storage.tables.view import TableView

if TYPE_CHECKING:
    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.index import VectorIndex
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table


@pytest.fixture
def table(store: Store, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setattr(lance_build, "LEAST_ROWS", 100)
    monkeypatch.setattr(lance_build, "_QUERIES", 12)
    return large_table(store)


def by_lance(store: Store, entry: DomainEntry, notices: list[str] | None = None) -> VectorIndex:
    notify = (notices if notices is not None else []).append
    folder = store.indexes_dir
    return open_index(store.view(entry), folder=folder, entry=entry, notify=notify, engine="lance")


@pytest.mark.parametrize("kind", ["IVF_RQ", "IVF_FLAT"])
def test_the_own_index_reaches_the_recall_it_reports(store: Store, table: Table, kind: str) -> None:
    built = ensure_lance_index(store.place, table.name, recall=0.9, kind=kind)
    assert built is not None
    assert built.recall_at_10 >= 0.9
    entry = published(store, table)
    view = store.view(entry)
    info = build_index(view, folder=store.indexes_dir, entry=entry, engine="lance")
    assert (info.engine, info.factory, info.recall_at_10) == ("lance", kind, built.recall_at_10)
    searched = by_lance(store, entry)
    assert searched.info == index_info(store.indexes_dir, entry, view=view) == info
    found = searched.search(QUERIES, k=10)
    assert recall(found, truth(view)) >= 0.7  # other queries than it was tuned on, and codes drawn by chance
    scores = view.vectors(np.flatnonzero(view.key_vh()[0] == found[0].keys[0])) @ QUERIES[0]
    assert found[0].scores[0] == pytest.approx(float(scores[0]), abs=1e-5)


def test_a_search_goes_through_the_own_index(store: Store, table: Table) -> None:
    ensure_lance_index(store.place, table.name, recall=0.9)
    view = store.view(published(store, table))
    nearest = {"column": "vector", "q": QUERIES[0], "k": 5, "metric": lance_build.METRIC, "nprobes": 4}
    plan = view.dataset.scanner(columns=["key"], nearest=nearest).explain_plan(verbose=True)
    assert "ANN" in plan


def test_rows_that_the_own_index_does_not_hold_are_found_and_gone_ones_are_not(
    store: Store, table: Table
) -> None:
    ensure_lance_index(store.place, table.name, recall=0.9)
    write(table, range(COUNT, COUNT + 50), seed=5)
    write(table, range(200, 230), seed=6, replaces=True)
    table.delete_documents(keys_of(range(50)))
    entry = published(store, table)
    view = store.view(entry)
    assert unindexed(view.dataset) >= 50
    assert_all_found(store, entry)
    table.maintain()
    assert unindexed(store.place.dataset(table.name)) == 0
    assert_all_found(store, published(store, table))


def assert_all_found(store: Store, entry: DomainEntry) -> None:
    view, searched = store.view(entry), by_lance(store, entry)
    assert searched.info.factory == "IVF_RQ"
    every = searched.search(QUERIES[:1], k=view.rows + 100)[0].keys
    assert sorted(every.tolist()) == sorted(view.key_vh()[0].tolist())
    assert recall(searched.search(QUERIES, k=10), truth(view)) >= 0.85


def test_a_choice_of_keys_is_kept_to_and_used_up(store: Store, table: Table) -> None:
    ensure_lance_index(store.place, table.name, recall=0.9)
    entry = published(store, table)
    view, searched = store.view(entry), by_lance(store, entry)
    for share in (0.0, 0.005, 0.3):
        allowed = view.key_vh()[0][: int(share * COUNT)]
        found = searched.search(QUERIES, k=10, allowed=allowed)
        assert all(len(one.keys) == min(10, len(allowed)) for one in found), share
        assert np.isin(np.concatenate([one.keys for one in found]), allowed).all(), share


def test_a_refresh_adds_new_rows_to_it_and_nothing_new_changes_nothing(store: Store, table: Table) -> None:
    first = ensure_lance_index(store.place, table.name, recall=0.9)
    version = table.version
    assert ensure_lance_index(store.place, table.name, recall=0.9) == first
    assert table.version == version
    write(table, range(COUNT, COUNT + 50), seed=5)
    second = ensure_lance_index(store.place, table.name, recall=0.9)
    assert second is not None
    assert second.rows == COUNT
    assert unindexed(store.place.dataset(table.name)) == 0


def test_it_is_made_anew_when_the_table_has_doubled(store: Store, table: Table) -> None:
    ensure_lance_index(store.place, table.name, recall=0.9)
    write(table, range(COUNT, 2 * COUNT + 10), seed=5)
    second = ensure_lance_index(store.place, table.name, recall=0.9)
    assert second is not None
    assert second.rows == 2 * COUNT + 10


def test_each_version_has_the_index_that_was_built_for_it(store: Store, table: Table) -> None:
    before = table.version
    ensure_lance_index(store.place, table.name, recall=0.9)
    older = TableView(store.place, name=table.name, version=before)
    newer = TableView(store.place, name=table.name, version=table.version)
    assert setting_of(older.dataset) is None
    assert setting_of(newer.dataset) is not None


def test_a_small_table_is_read_whole_and_has_none(store: Store) -> None:
    table = large_table(store, rows=50)
    assert ensure_lance_index(store.place, table.name, recall=0.9) is None
    notices: list[str] = []
    searched = by_lance(store, published(store, table), notices)
    assert (searched.info.factory, notices) == ("exact", [])
