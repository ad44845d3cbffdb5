"""Searching through an index gives what exact search gives, whatever happened to table or file."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from index_builders import COUNT, DIM, QUERIES, keys_of, large_table, only, opened, recall, truth, write
from storage_builders import published, rows_of, unit_vectors

from moe_retrieval import hashing
from moe_retrieval.errors import BadVectorError
from moe_retrieval.storage import index
from moe_retrieval.storage.index import build_index, index_info, open_index
from moe_retrieval.storage.indexes import exact, faiss_build, faiss_index, sidecar
from moe_retrieval.storage.indexes.lance_index import LanceIndex
from moe_retrieval.storage.tables.rows import to_batch

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table


@pytest.fixture
def table(store: Store) -> Table:
    return large_table(store)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that a table of this size is a large one, which gets a graph."""
    only(monkeypatch, "HNSW32,SQ8")


def test_a_small_table_is_searched_exactly(store: Store, table: Table) -> None:
    entry = published(store, table)
    info = build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    assert (info.engine, info.factory, info.rows, info.recall_at_10) == ("faiss", "Flat", COUNT, 1.0)
    found = opened(store, entry).search(QUERIES, k=10)
    assert recall(found, truth(store.view(entry))) == 1.0
    assert all(np.all(np.diff(one.scores) <= 0) for one in found)


def test_scores_are_cosines(store: Store, table: Table) -> None:
    entry = published(store, table)
    view = store.view(entry)
    own = view.vectors(np.array([5]))
    found = opened(store, entry).search(own, k=1)[0]
    assert found.keys.tolist() == [view.key_vh()[0][5]]
    assert found.scores[0] == pytest.approx(1.0, abs=1e-6)


def test_keys_that_are_not_in_the_table_are_not_found(store: Store, table: Table) -> None:
    entry = published(store, table)
    searched = opened(store, entry)
    assert len(searched.search(QUERIES[:1], k=5, allowed=np.array([1, 2, 3]))[0].keys) == 0


def test_equal_vectors_are_in_the_order_of_their_keys_wherever_the_cut_falls(store: Store) -> None:
    table = store.create_table("cvd", dim=DIM, fingerprint="space-one")
    rows = [rows_of(f"d{at}", ["x"])[0] for at in range(80)]
    table.write(to_batch(rows, np.repeat(unit_vectors(1, dim=DIM), 80, axis=0)))
    entry = published(store, table)
    expected = np.sort(table.keys()).tolist()
    for k in (1, 5, 79):
        assert opened(store, entry).search(QUERIES[:1], k=k)[0].keys.tolist() == expected[:k]
        assert (
            LanceIndex(store.view(entry), info=opened(store, entry).info)
            .search(QUERIES[:1], k=k)[0]
            .keys.tolist()
            == expected[:k]
        )


def test_rows_are_fetched_by_the_offsets_an_index_gives(store: Store, table: Table) -> None:
    table.delete_documents(keys_of((3, 700)))
    entry = published(store, table)
    view, searched = store.view(entry), opened(store, entry)
    keys = searched.search(QUERIES[:1], k=10)[0].keys
    offsets = searched.offsets(keys)
    assert offsets is not None
    assert view.take(offsets, columns=["key"])["key"].to_pylist() == keys.tolist()
    assert searched.offsets(np.array([4])).tolist() == [-1]  # type: ignore[union-attr]


def test_rows_written_after_the_index_was_built_are_found_and_gone_ones_are_not(
    store: Store, table: Table, small: None
) -> None:
    first = published(store, table)
    build_index(store.view(first), folder=store.indexes_dir, entry=first)
    write(table, range(COUNT, COUNT + 40), seed=5)
    write(table, range(200, 230), seed=6, replaces=True)
    table.delete_documents(keys_of(range(50)))
    table.maintain()
    entry = published(store, table)
    view, searched = store.view(entry), opened(store, entry)
    assert (searched.info.factory, searched.info.tail) == ("HNSW32,SQ8", 70)
    assert recall(searched.search(QUERIES, k=10), truth(view)) >= 0.95
    keys, _ = view.key_vh()
    everything = searched.search(QUERIES[:1], k=COUNT)[0]
    assert sorted(everything.keys.tolist()) == sorted(keys.tolist())
    half = keys[::2]
    assert recall(searched.search(QUERIES, k=10, allowed=half), truth(view, allowed=half)) >= 0.95
    fresh = view.take(np.flatnonzero(np.isin(keys, everything.keys[:10])), columns=["key"])
    assert fresh.num_rows == 10


def test_an_index_of_the_same_content_is_not_built_twice(store: Store, table: Table) -> None:
    entry = published(store, table)
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    before = {path.name: path.stat().st_mtime_ns for path in store.indexes_dir.iterdir()}
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    assert {path.name: path.stat().st_mtime_ns for path in store.indexes_dir.iterdir()} == before
    assert sorted(path.suffix for path in store.indexes_dir.iterdir()) == [".faiss", ".json", ".npy"]


@pytest.mark.parametrize("suffix", [".faiss", ".npy", ".json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_index_file_is_never_believed(store: Store, table: Table, suffix: str, damage: str) -> None:
    entry = published(store, table)
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    path = next(store.indexes_dir.glob(f"*{suffix}"))
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
    path.write_bytes({"flip": flipped, "cut": data[:middle], "gone": b""}[damage])
    if damage == "gone":
        path.unlink()
    notices: list[str] = []
    found = opened(store, entry, notices).search(QUERIES, k=10)
    assert recall(found, truth(store.view(entry))) == 1.0
    if suffix == ".faiss":
        assert "is rebuilt" in notices[0]
        assert opened(store, entry).info.notice == ""


def test_a_damaged_index_is_replaced_by_the_next_index_run(store: Store, table: Table) -> None:
    entry = published(store, table)
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    path = next(store.indexes_dir.glob("*.faiss"))
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"x")
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    assert path.read_bytes() == good


def test_without_a_place_to_keep_it_the_index_lives_in_memory(store: Store, table: Table) -> None:
    entry = published(store, table)
    store.indexes_dir.rmdir()
    store.indexes_dir.write_text("not a folder")
    searched = opened(store, entry)
    assert "memory only" in searched.info.notice
    assert recall(searched.search(QUERIES, k=10), truth(store.view(entry))) == 1.0


def test_a_large_table_without_an_index_is_searched_by_lance_and_said(
    store: Store, table: Table, small: None
) -> None:
    entry = published(store, table)
    notices: list[str] = []
    searched = opened(store, entry, notices)
    assert searched.info.engine == "lance"
    assert "moeret index builds it" in notices[0]
    assert recall(searched.search(QUERIES, k=10), truth(store.view(entry))) == 1.0


def test_without_faiss_lance_searches_and_names_the_extra(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "faiss_installed", lambda: False)
    entry = published(store, table)
    notices: list[str] = []
    searched = opened(store, entry, notices)
    assert "pip install 'moeret[cpu]'" in notices[0]
    assert build_index(store.view(entry), folder=store.indexes_dir, entry=entry).engine == "lance"
    view = store.view(entry)
    assert recall(searched.search(QUERIES, k=10), truth(view)) == 1.0
    for allowed in (view.key_vh()[0][:300], np.zeros(0, np.int64)):
        found = searched.search(QUERIES, k=10, allowed=allowed)
        assert recall(found, truth(view, allowed=allowed)) == (1.0 if len(allowed) else 0.0)
        assert all(len(one.keys) == min(10, len(allowed)) for one in found)
    assert index_info(store.indexes_dir, entry) is None


def test_a_long_choice_of_keys_is_searched_exactly_without_faiss(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moe_retrieval.storage.indexes import lance_index

    monkeypatch.setattr(lance_index, "_LONGEST_LIST", 100)
    monkeypatch.setattr(index, "faiss_installed", lambda: False)
    entry = published(store, table)
    view = store.view(entry)
    allowed = view.key_vh()[0][:300]
    found = opened(store, entry).search(QUERIES, k=10, allowed=allowed)
    assert recall(found, truth(view, allowed=allowed)) == 1.0


def test_an_empty_table_is_searched_without_hits(store: Store) -> None:
    table = store.create_table("cvd", dim=DIM, fingerprint="space-one")
    entry = published(store, table)
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    found = opened(store, entry).search(QUERIES[:2], k=5)
    assert [len(one.keys) for one in found] == [0, 0]


def test_a_query_of_another_width_is_refused(store: Store, table: Table) -> None:
    entry = published(store, table)
    with pytest.raises(BadVectorError, match="a query has width 3"):
        opened(store, entry).search(np.ones((1, 3), np.float32), k=1)


def test_what_there_is_can_be_asked_without_opening_it(store: Store, table: Table) -> None:
    entry = published(store, table)
    assert index_info(store.indexes_dir, entry) is None
    built = build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    assert index_info(store.indexes_dir, entry) == built


def test_index_files_of_all_but_the_newest_two_contents_are_removed(store: Store, table: Table) -> None:
    for at in range(4):
        write(table, range(COUNT + at, COUNT + at + 1), seed=at + 50)
        entry = published(store, table)
        build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    assert [one.rows for one in sidecar.read_all(store.indexes_dir)] == [COUNT + 4, COUNT + 3]
    assert len(list(store.indexes_dir.iterdir())) == 6


def test_readers_of_generations_in_the_middle_of_a_run_leave_no_more_either(
    store: Store, table: Table
) -> None:
    for at in range(4):
        write(table, range(COUNT + at, COUNT + at + 1), seed=at + 50)
        opened(store, published(store, table))
    assert [one.rows for one in sidecar.read_all(store.indexes_dir)] == [COUNT + 4, COUNT + 3]
    assert len(list(store.indexes_dir.iterdir())) == 6


def test_a_reader_of_an_older_generation_keeps_its_own_index_and_the_newest(
    store: Store, table: Table
) -> None:
    entries = []
    for at in range(3):
        write(table, range(COUNT + at, COUNT + at + 1), seed=at + 50)
        entries.append(published(store, table))
        opened(store, entries[-1])
    opened(store, entries[0])
    assert [one.rows for one in sidecar.read_all(store.indexes_dir)] == [COUNT + 3, COUNT + 1]


def test_exact_search_takes_a_choice_of_keys_in_any_order(store: Store, table: Table) -> None:
    view = store.view(published(store, table))
    chosen = np.random.default_rng(3).permutation(view.key_vh()[0])[:400]
    found = exact.search_all(view, QUERIES, k=10, allowed=np.concatenate([chosen, chosen[:9], [4]]))
    assert recall(found, truth(view, allowed=chosen)) == 1.0


def test_threads_search_one_index_alike(store: Store, table: Table, small: None) -> None:
    entry = published(store, table)
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    searched = opened(store, entry)
    allowed = store.view(entry).key_vh()[0][::2]
    expected = searched.search(QUERIES, k=10, allowed=allowed)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: searched.search(QUERIES, k=10, allowed=allowed), range(40)))
    for one in found:
        assert all(np.array_equal(a.keys, b.keys) for a, b in zip(one, expected, strict=True))


def test_opening_a_sound_index_reads_no_vectors_of_the_table(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = published(store, table)
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    view = store.view(entry)
    monkeypatch.setattr(type(view), "key_vh", lambda _: pytest.fail("read the keys"))
    monkeypatch.setattr(type(view), "vectors", lambda *_: pytest.fail("read the vectors"))
    searched = open_index(view, folder=store.indexes_dir, entry=entry, notify=pytest.fail)
    assert len(searched.search(QUERIES[:1], k=3)[0].keys) == 3
    assert "faiss" in sys.modules


def test_an_unchanged_file_is_hashed_once_and_a_changed_one_is_never_searched(
    store: Store, table: Table, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_SETTLED", -1.0)
    entry = published(store, table)
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    opened(store, entry)
    with monkeypatch.context() as once:
        once.setattr(hashing, "file_sha256", lambda _: pytest.fail("it was hashed again"))
        assert opened(store, entry).info.engine == "faiss"
    for path in [*store.indexes_dir.glob("*.faiss"), *store.indexes_dir.glob("*.npy")]:
        with path.open("r+b") as stream:
            stream.seek(path.stat().st_size // 2)
            byte = stream.read(1)
            stream.seek(-1, 1)
            stream.write(bytes([byte[0] ^ 1]))
        notices: list[str] = []
        with monkeypatch.context() as watched:
            watched.setattr(faiss_index, "FaissIndex", lambda *_, **__: pytest.fail("it was searched"))
            watched.setattr(index, "_REBUILD_ON_OPEN", 0)
            assert opened(store, entry, notices).info.engine == "lance"
        assert "is damaged" in notices[0]
        assert opened(store, entry).info.engine == "faiss"


def test_another_version_of_the_same_content_is_noted_so_that_opening_reads_no_keys(
    store: Store, table: Table, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in (COUNT, COUNT + 5):
        write(table, range(start, start + 5), seed=start)
    first = published(store, table)
    build_index(store.view(first), folder=store.indexes_dir, entry=first)
    table.maintain()
    entry = published(store, table)
    assert (entry.digest, entry.version > first.version) == (first.digest, True)
    monkeypatch.setattr(faiss_build, "filled", lambda *_: pytest.fail("built again"))
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    view = store.view(entry)
    monkeypatch.setattr(type(view), "key_vh", lambda _: pytest.fail("read the keys"))
    searched = open_index(view, folder=store.indexes_dir, entry=entry, notify=pytest.fail)
    keys = searched.search(QUERIES[:1], k=10)[0].keys
    offsets = searched.offsets(keys)
    assert offsets is not None
    assert view.take(offsets, columns=["key"])["key"].to_pylist() == keys.tolist()


def test_files_that_a_writer_changed_while_they_were_opened_are_opened_again(
    store: Store, table: Table, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = published(store, table)
    view = store.view(entry)
    build_index(view, folder=store.indexes_dir, entry=entry)
    real, calls = sidecar.read_all, []

    def stale_at_first(folder: Path) -> list[sidecar.Sidecar]:
        found = real(folder)
        calls.append(folder)
        return [replace(one, rows_sha256="0" * 64) for one in found] if len(calls) == 1 else found

    monkeypatch.setattr(sidecar, "read_all", stale_at_first)
    assert open_index(view, folder=store.indexes_dir, entry=entry, notify=pytest.fail).info.engine == "faiss"


def test_index_files_of_the_older_layout_are_passed_over_and_superseded(store: Store, table: Table) -> None:
    entry = published(store, table)
    view = store.view(entry)
    build_index(view, folder=store.indexes_dir, entry=entry)
    one = replace(sidecar.read_all(store.indexes_dir)[0], layout=1, version=99)
    for path in list(store.indexes_dir.iterdir()):
        path.rename(path.with_name(f"{one.name}{path.suffix}".replace(".npy", ".npz")))
    (store.indexes_dir / f"{one.name}.json").unlink()
    sidecar.write(store.indexes_dir, one)
    assert index_info(store.indexes_dir, entry) is None
    assert build_index(view, folder=store.indexes_dir, entry=entry).rows == COUNT
    assert sorted(path.suffix for path in store.indexes_dir.iterdir()) == [".faiss", ".json", ".npy"]
