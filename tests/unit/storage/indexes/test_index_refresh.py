"""An index brought up to date by what changed finds what one built anew finds, and costs no build."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from index_builders import COUNT, QUERIES, keys_of, large_table, only, opened, recall, truth, write
from storage_builders import published

from moe_retrieval.storage import index
from moe_retrieval.storage.index import build_index
from moe_retrieval.storage.indexes import faiss_build, faiss_refresh, sidecar

if TYPE_CHECKING:
    from moe_retrieval.storage.index import IndexInfo
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table

KINDS = ("Flat", "SQ8", "HNSW32", "IVF16,SQ8", "IVF16,Flat", "IVF16,RaBitQ,Refine(SQ8)")


@pytest.fixture
def table(store: Store) -> Table:
    return large_table(store)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """No row is left to be searched beside the index."""
    monkeypatch.setattr(index, "_LEFT_ROWS", 0)


def indexed(store: Store, table: Table, *, wanted: float = 0.9) -> IndexInfo:
    entry = published(store, table)
    return build_index(store.view(entry), folder=store.indexes_dir, entry=entry, recall=wanted)


def newest(store: Store) -> sidecar.Sidecar:
    return sidecar.read_all(store.indexes_dir)[0]


@pytest.mark.parametrize("factory", KINDS)
def test_after_random_changes_a_refreshed_index_finds_what_exact_search_finds(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch, eager: None, factory: str
) -> None:
    only(monkeypatch, factory)
    rng = np.random.default_rng(KINDS.index(factory))
    indexed(store, table)
    monkeypatch.setattr(faiss_build, "build", lambda *_, **__: pytest.fail("it was built anew"))
    versions = [table.version]
    for step, act in enumerate(
        rng.permutation(["update", "update", "delete", "insert", "insert", "restore"])
    ):
        docs = rng.choice(COUNT, size=30, replace=False)
        match act:
            case "update":
                write(table, docs, seed=100 + step, replaces=True)
            case "delete":
                table.delete_documents(keys_of(docs))
            case "insert":
                write(table, range(COUNT + 100 * step, COUNT + 100 * step + 40), seed=300 + step)
            case _:
                table.restore(int(rng.choice(versions)))
        versions.append(table.version)
        done = indexed(store, table)
        entry = published(store, table)
        view, searched = store.view(entry), opened(store, entry)
        assert (done.rows, done.tail) == (searched.info.rows, searched.info.tail) == (view.rows, 0), step
        every = searched.search(QUERIES[:1], k=view.rows + 50)[0].keys
        assert sorted(every.tolist()) == sorted(view.key_vh()[0].tolist()), step
        found = searched.search(QUERIES, k=10)
        assert recall(found, truth(view)) >= (1.0 if factory == "Flat" else 0.88), step
        half = view.key_vh()[0][::2]
        chosen = searched.search(QUERIES, k=10, allowed=half)
        assert all(np.isin(one.keys, half).all() and len(one.keys) == 10 for one in chosen), step
        offsets = searched.offsets(found[0].keys)
        assert offsets is not None
        assert view.take(offsets, columns=["key"])["key"].to_pylist() == found[0].keys.tolist(), step


def test_an_updated_row_is_found_by_its_new_vector_only(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    for seed, factory in enumerate(("IVF16,Flat", "HNSW32")):
        only(monkeypatch, factory)
        indexed(store, table)
        key, old = row_of(store, table, "d5")
        write(table, [5], seed=200 + seed, replaces=True)
        indexed(store, table)
        same, new = row_of(store, table, "d5")
        searched = opened(store, published(store, table))
        assert same == key
        assert searched.search(new, k=1)[0].keys.tolist() == [key]
        assert searched.search(old, k=1)[0].keys.tolist() != [key]


def row_of(store: Store, table: Table, doc: str) -> tuple[int, np.ndarray]:
    """Key and vector of a document's row."""
    view = store.view(published(store, table))
    rows = view.take(np.arange(view.rows), columns=["doc_id", "key"])
    offset = rows["doc_id"].to_pylist().index(doc)
    return rows["key"][offset].as_py(), view.vectors(np.array([offset]))


def test_rows_that_come_back_are_found_where_a_graph_still_has_them(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    only(monkeypatch, "HNSW32")
    indexed(store, table)
    first = table.version
    table.delete_documents(keys_of(range(40)))
    indexed(store, table)
    sidecar_of_less = newest(store)
    for path in store.indexes_dir.iterdir():
        if path.stem != sidecar_of_less.name:
            path.unlink()
    table.restore(first)
    monkeypatch.setattr(faiss_build, "store", lambda *_: pytest.fail("nothing is to be stored"))
    assert indexed(store, table).tail == 0
    entry = published(store, table)
    found = opened(store, entry).search(QUERIES[:1], k=COUNT + 1)[0].keys
    assert sorted(found.tolist()) == sorted(store.view(entry).key_vh()[0].tolist())


def test_few_new_rows_are_left_to_exact_search_and_more_are_added(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "IVF16,SQ8")
    indexed(store, table)
    write(table, range(COUNT, COUNT + 20), seed=5)
    left = indexed(store, table)
    assert (left.rows, left.tail) == (COUNT, 20)
    write(table, range(COUNT + 20, COUNT + 200), seed=6)
    assert indexed(store, table).rows == COUNT + 200
    assert newest(store).added == 200


def test_much_that_changed_means_a_new_index(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "IVF16,SQ8")
    indexed(store, table)
    write(table, range(COUNT, COUNT + 400), seed=5)
    indexed(store, table)
    assert newest(store).added == 400
    write(table, range(COUNT + 400, COUNT + 800), seed=6)
    indexed(store, table)
    assert (newest(store).added, newest(store).rows) == (0, COUNT + 800)


def test_many_dead_rows_in_a_graph_mean_a_new_one(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "HNSW32")
    indexed(store, table)
    table.delete_documents(keys_of(range(200)))
    indexed(store, table)
    assert newest(store).positions == COUNT
    table.delete_documents(keys_of(range(200, 400)))
    indexed(store, table)
    assert newest(store).positions == COUNT - 400


def test_a_refresh_that_falls_short_of_the_recall_becomes_a_build(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    only(monkeypatch, "IVF16,SQ8")
    indexed(store, table)
    write(table, range(COUNT, COUNT + 40), seed=5)
    monkeypatch.setattr(
        faiss_refresh, "tuned", lambda *_, **__: faiss_build.Score({"nlist": 16, "nprobe": 1}, 0.1, 0.1)
    )
    indexed(store, table)
    assert (newest(store).added, newest(store).rows) == (0, COUNT + 40)


def test_a_damaged_index_is_no_start_for_a_refresh(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    only(monkeypatch, "IVF16,SQ8")
    indexed(store, table)
    path = next(store.indexes_dir.glob("*.faiss"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    write(table, range(COUNT, COUNT + 40), seed=5)
    assert indexed(store, table).rows == COUNT + 40
    assert newest(store).added == 0


def test_the_index_of_an_older_generation_stays_as_it_was(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    only(monkeypatch, "IVF16,SQ8")
    first = published(store, table)
    indexed(store, table)
    searched = opened(store, first)
    before = [one.keys.tolist() for one in searched.search(QUERIES, k=10)]
    table.delete_documents(keys_of(range(100)))
    indexed(store, table)
    assert [one.keys.tolist() for one in searched.search(QUERIES, k=10)] == before
    assert [one.keys.tolist() for one in opened(store, first).search(QUERIES, k=10)] == before
