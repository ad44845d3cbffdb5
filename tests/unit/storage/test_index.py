"""Searching through an index gives what exact search gives, whatever happened to table or file."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from storage_builders import published, rows_of, unit_vectors

from moe_retrieval.errors import BadVectorError
from moe_retrieval.hashing import document_key
from moe_retrieval.storage import exact, faiss_build, faiss_index, index, sidecar
from moe_retrieval.storage.index import build_index, index_info, open_index
from moe_retrieval.storage.lance_index import LanceIndex
from moe_retrieval.storage.rows import to_batch

if TYPE_CHECKING:
    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.index import VectorIndex
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.table import Table
    from moe_retrieval.storage.view import Found, TableView

DIM = 16
COUNT = 1_500
QUERIES = unit_vectors(20, dim=DIM, seed=77)


def write(table: Table, docs: range, *, seed: int, replaces: bool = False) -> None:
    rows = [rows_of(f"d{at}", [f"text {at}"])[0] for at in docs]
    keys = np.array([document_key(f"/corpus/d{at}.txt", f"d{at}") for at in docs]) if replaces else None
    table.write(to_batch(rows, unit_vectors(len(rows), dim=DIM, seed=seed)), replaces=keys)


@pytest.fixture
def table(store: Store) -> Table:
    table = store.create_table("cvd", dim=DIM, fingerprint="space-one")
    write(table, range(COUNT), seed=0)
    return table


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that a table of this size is a large one."""
    monkeypatch.setattr(faiss_build, "FLAT_ROWS", 100)


def truth(view: TableView, *, k: int = 10, allowed: np.ndarray | None = None) -> list[set[int]]:
    keys, _ = view.key_vh()
    scores = QUERIES @ view.vectors().T
    if allowed is not None:
        scores[:, ~np.isin(keys, allowed)] = -9
        k = min(k, len(allowed))
    return [set(keys[np.argsort(-row)[:k]].tolist()) for row in scores]


def recall(found: list[Found], wanted: list[set[int]]) -> float:
    pairs = zip(found, wanted, strict=True)
    return float(np.mean([len(set(one.keys.tolist()) & best) / max(1, len(best)) for one, best in pairs]))


def opened(store: Store, entry: DomainEntry, notices: list[str] | None = None) -> VectorIndex:
    notify = (notices if notices is not None else []).append
    return open_index(store.view(entry), folder=store.indexes_dir, entry=entry, notify=notify)


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


@pytest.mark.parametrize("factory", ["HNSW32,SQ8", "HNSW32", "IVF16,SQ8", "Flat"])
def test_every_kind_of_index_reaches_the_recall_it_reports(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    monkeypatch.setattr(faiss_build, "factories", lambda _: (factory,))
    entry = published(store, table)
    info = build_index(store.view(entry), folder=store.indexes_dir, entry=entry, recall=0.95)
    assert info.factory == factory
    assert info.recall_at_10 is not None
    assert info.recall_at_10 >= 0.95
    searched = opened(store, entry)
    assert recall(searched.search(QUERIES, k=10), truth(store.view(entry))) >= 0.9
    assert len(searched.search(QUERIES[:1], k=COUNT + 50)[0].keys) == COUNT


def test_vectors_that_compression_would_blur_are_kept_whole(
    store: Store, table: Table, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = unit_vectors(1, dim=DIM) + 1e-4 * unit_vectors(COUNT, dim=DIM, seed=9)
    close[0] = -close[0]  # so that the range of each dimension is wide, and eight bits of it are coarse
    close /= np.linalg.norm(close, axis=1, keepdims=True)
    rows = [rows_of(f"c{at}", ["x"])[0] for at in range(COUNT)]
    near = store.create_table("copd", dim=DIM, fingerprint="space-one")
    near.write(to_batch(rows, close))
    entry = published(store, near)
    built: list[str] = []
    real = faiss_build._filled
    monkeypatch.setattr(faiss_build, "_filled", lambda view, kind: (built.append(kind), real(view, kind))[1])
    assert build_index(store.view(entry), folder=store.indexes_dir, entry=entry).factory == "HNSW32"
    assert built == ["SQ8", "HNSW32"]


def test_a_recall_out_of_reach_falls_back_to_the_next_kind_and_is_said(
    store: Store, table: Table, small: None
) -> None:
    entry = published(store, table)
    info = build_index(store.view(entry), folder=store.indexes_dir, entry=entry, recall=1.01)
    assert info.factory == "HNSW32"
    assert "below 1.01" in info.notice


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("factory", ["Flat", "HNSW32,SQ8", "IVF16,SQ8"])
def test_a_choice_of_keys_is_kept_to_and_used_up(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch, factory: str, share: float
) -> None:
    monkeypatch.setattr(faiss_build, "factories", lambda _: (factory,))
    monkeypatch.setattr(faiss_index, "_FEW_ALLOWED", 20)
    entry = published(store, table)
    view = store.view(entry)
    allowed = view.key_vh()[0][: int(share * COUNT)]
    found = opened(store, entry).search(QUERIES, k=10, allowed=allowed)
    assert all(len(one.keys) == min(10, len(allowed)) for one in found)
    assert np.isin(np.concatenate([one.keys for one in found]), allowed).all()
    assert recall(found, truth(view, allowed=allowed)) >= (0.9 if len(allowed) else 0.0)


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
    table.delete_documents(np.array([document_key(f"/corpus/d{at}.txt", f"d{at}") for at in (3, 700)]))
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
    table.delete_documents(np.array([document_key(f"/corpus/d{at}.txt", f"d{at}") for at in range(50)]))
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


def test_a_small_change_does_not_rebuild_a_large_index_and_a_large_one_does(
    store: Store, table: Table, small: None
) -> None:
    first = published(store, table)
    built = build_index(store.view(first), folder=store.indexes_dir, entry=first)
    write(table, range(COUNT, COUNT + 20), seed=5)
    second = published(store, table)
    kept = build_index(store.view(second), folder=store.indexes_dir, entry=second)
    assert (kept.rows, kept.tail) == (built.rows, 20)
    write(table, range(COUNT + 20, COUNT + 400), seed=6)
    third = published(store, table)
    assert build_index(store.view(third), folder=store.indexes_dir, entry=third).rows == COUNT + 400


def test_an_index_of_the_same_content_is_not_built_twice(store: Store, table: Table) -> None:
    entry = published(store, table)
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    before = {path.name: path.stat().st_mtime_ns for path in store.indexes_dir.iterdir()}
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)
    assert {path.name: path.stat().st_mtime_ns for path in store.indexes_dir.iterdir()} == before
    assert sorted(path.suffix for path in store.indexes_dir.iterdir()) == [".faiss", ".json", ".npz"]


@pytest.mark.parametrize("suffix", [".faiss", ".npz", ".json"])
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
    from moe_retrieval.storage import lance_index

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
