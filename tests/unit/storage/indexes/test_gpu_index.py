"""One thread owns an index on a GPU, and answers as the index on the CPU does.

The owner is tested everywhere, with an index on the CPU in its care. What needs a GPU and faiss-gpu:

    python -m pytest -m gpu tests/unit/storage/indexes/test_gpu_index.py
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from index_builders import COUNT, DIM, QUERIES, keys_of, large_table, only, opened, recall, truth, write
from storage_builders import published, unit_vectors

from moe_retrieval.storage import index
from moe_retrieval.storage.index import build_index
from moe_retrieval.storage.indexes import faiss_gpu
from moe_retrieval.storage.indexes.faiss_gpu import DEEPEST, Resident, gpu_present, on_gpu

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_retrieval.storage.indexes.faiss_index import FaissIndex
    from moe_retrieval.storage.store import Store

VECTORS = unit_vectors(500, dim=DIM, seed=3)


class Watched:
    """A flat index that notes which threads come to it, and how many queries at a time."""

    def __init__(self) -> None:
        import faiss

        self.index = faiss.IndexFlatIP(DIM)
        self.index.add(VECTORS)
        self.threads = {threading.get_ident()}
        self.sizes: list[int] = []
        self.hold: threading.Event | None = None

    def search(self, queries: np.ndarray, depth: int) -> Any:
        self.threads.add(threading.get_ident())
        self.sizes.append(len(queries))
        if self.hold:
            self.hold.wait(10)
        return self.index.search(queries, depth)


def eventually(true: Callable[[], bool]) -> None:
    """Wait until it is so, ten seconds at most."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_only_the_owner_touches_its_index_however_many_threads_search() -> None:
    resident = Resident(Watched)
    expected = Watched().search(QUERIES, 7)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda at: resident.search(QUERIES[at : at + 1], 7), range(len(QUERIES))))
    for at, (scores, positions) in enumerate(answers):
        assert np.array_equal(positions[0], expected[1][at])
        assert np.allclose(scores[0], expected[0][at], atol=1e-6)
    assert len(resident._index.threads) == 1
    assert threading.get_ident() not in resident._index.threads
    resident.close()


def test_whoever_waits_is_answered_in_one_batch_each_to_the_depth_asked_for() -> None:
    resident = Resident(Watched)
    watched: Watched = resident._index
    watched.hold = threading.Event()
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(resident.search, QUERIES[:1], 3)
        eventually(lambda: bool(watched.sizes))
        others = [pool.submit(resident.search, QUERIES[at : at + 2], at) for at in range(1, 6)]
        eventually(lambda: len(resident._waiting) == 5)
        watched.hold.set()
        shapes = [one.result()[1].shape for one in (first, *others)]
    assert shapes == [(1, 3), *((2, at) for at in range(1, 6))]
    assert watched.sizes == [1, 10]
    resident.close()


def test_a_search_that_fails_fails_for_those_who_asked_and_for_nobody_else() -> None:
    resident = Resident(Watched)
    with pytest.raises((AssertionError, RuntimeError)):
        resident.search(np.ones((1, DIM + 1), np.float32), 3)
    assert resident.search(QUERIES[:1], 3)[1].shape == (1, 3)
    resident.close()


def test_what_cannot_be_made_is_said_at_once() -> None:
    def fail() -> Any:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        Resident(fail)


@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat"])
def test_plain_searches_go_to_the_owner_and_filtered_and_deep_ones_do_not(
    store: Store, monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    only(monkeypatch, factory)
    table = large_table(store, rows=3_000)
    made: list[Resident] = []
    asked: list[int] = []

    def stand_in(cpu: Any, *, factory: str, setting: Any) -> Resident:
        class Copy:
            def search(self, queries: np.ndarray, depth: int) -> Any:
                asked.append(depth)
                from moe_retrieval.storage.indexes.faiss_choice import search_parameters

                return cpu.search(queries, depth, params=search_parameters(setting))

        made.append(Resident(Copy))
        return made[-1]

    monkeypatch.setattr(faiss_gpu, "on_gpu", stand_in)
    entry = published(store, table)
    view = store.view(entry)
    build_index(view, folder=store.indexes_dir, entry=entry)
    searched = opened(store, entry)
    asked.clear()
    assert recall(searched.search(QUERIES, k=10), truth(view)) >= 0.95
    assert asked == [26]
    half = view.key_vh()[0][::2]
    searched.search(QUERIES, k=10, allowed=half)
    assert len(searched.search(QUERIES[:1], k=DEEPEST)[0].keys) == DEEPEST
    assert asked == [26]
    table.delete_documents(keys_of(range(5)))
    write(table, range(5_000, 5_005), seed=8)
    later = published(store, table)
    moved = opened(store, later)
    assert recall(moved.search(QUERIES, k=10), truth(store.view(later))) >= 0.95
    for one in made:
        one.close()


def test_when_the_gpu_fails_the_cpu_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def search(self, queries: np.ndarray, depth: int) -> Any:
            raise RuntimeError("out of memory")

    monkeypatch.setattr(faiss_gpu, "on_gpu", lambda *_, **__: Resident(Failing))
    entry = published(store, large_table(store))
    assert recall(opened(store, entry).search(QUERIES, k=10), truth(store.view(entry))) == 1.0


def test_without_a_gpu_there_is_no_resident() -> None:
    if gpu_present():
        pytest.skip("there is a GPU")
    assert on_gpu(Watched().index, factory="Flat", setting={}) is None


@pytest.fixture
def gpu() -> None:
    """Skip where there is none, and say what is missing."""
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("faiss has no GPU support: install moeret[gpu] instead of moeret[cpu]; not measured")
    if not gpu_present():
        pytest.skip("faiss sees no GPU; not measured")


@pytest.mark.gpu
@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "IVF16,SQ8"])
def test_a_gpu_finds_what_the_cpu_finds_after_add_swap_and_filter(
    gpu: None, store: Store, monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    only(monkeypatch, factory)
    monkeypatch.setattr(index, "_LEFT_ROWS", 0)
    table = large_table(store)
    for step in range(3):
        if step:
            write(table, range(COUNT + 50 * step, COUNT + 50 * step + 40), seed=step)
            table.delete_documents(keys_of(range(20 * step, 20 * step + 20)))
        entry = published(store, table)
        build_index(store.view(entry), folder=store.indexes_dir, entry=entry, recall=0.9)
        ours: FaissIndex = opened(store, entry)  # type: ignore[assignment]
        assert ours._resident is not None
        with monkeypatch.context() as without:
            without.setattr(faiss_gpu, "on_gpu", lambda *_, **__: None)
            theirs = opened(store, entry)
        half = store.view(entry).key_vh()[0][::2]
        for allowed in (None, half):
            found = ours.search(QUERIES, k=10, allowed=allowed)
            wanted = [set(one.keys.tolist()) for one in theirs.search(QUERIES, k=10, allowed=allowed)]
            assert recall(found, wanted) >= 0.999
