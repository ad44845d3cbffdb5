"""A FAISS index on a GPU: copied from the one on the CPU at load, and owned by a single thread.

Not even two readers may share a GPU index. So one thread owns it; whoever searches waits for that thread,
which answers all that wait in one batch. What a GPU cannot do (a filter, very many hits, a graph) is left to
the index on the CPU.

Not measured: no run of this project had faiss-gpu.
"""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.storage.engine import faiss
from moe_retrieval.storage.indexes.faiss_choice import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEEPEST = 2_048
"""Hits per query, and lists looked at, that FAISS allows on a GPU."""

_LARGEST_BATCH = 1_024


@dataclass(frozen=True, slots=True)
class _Asked:
    queries: np.ndarray  # float32 (n, dim)
    depth: int
    answer: Future[tuple[np.ndarray, np.ndarray]] = field(default_factory=Future)


class Resident:
    """An index that lives in one thread: `make` is called there, and so is every search.

    Raises whatever `make` raises.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="moeret-index")
        self._waiting: list[_Asked] = []
        self._lock = threading.Lock()
        try:
            self._index = self._thread.submit(make).result()
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    def search(self, queries: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores (float32) and positions (int64), both (n, depth), as FAISS gives them."""
        asked = _Asked(queries, depth)
        with self._lock:
            self._waiting.append(asked)
        self._thread.submit(self._serve)
        return asked.answer.result()

    def close(self) -> None:
        """Let the thread end when it has answered all that wait."""
        self._thread.shutdown(wait=False)

    def _serve(self) -> None:
        batch = self._next_batch()
        if not batch:
            return  # an earlier turn answered all
        try:
            depth = max(one.depth for one in batch)
            scores, positions = self._index.search(np.concatenate([one.queries for one in batch]), depth)
        except (RuntimeError, AssertionError) as error:
            for one in batch:
                one.answer.set_exception(error)
            return
        ends = np.cumsum([len(one.queries) for one in batch])[:-1]
        for one, mine, at in zip(batch, np.split(scores, ends), np.split(positions, ends), strict=True):
            one.answer.set_result((mine[:, : one.depth], at[:, : one.depth]))

    def _next_batch(self) -> list[_Asked]:
        with self._lock:
            sizes = itertools.accumulate(len(one.queries) for one in self._waiting)
            count = 1 + sum(size < _LARGEST_BATCH for size in sizes)
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch


def on_gpu(index: Any, *, factory: str, setting: Mapping[str, int]) -> Resident | None:
    """A copy of the index on the first GPU; None without one, or where FAISS has no such index there."""
    kind = Kind(factory)
    if not gpu_present() or kind.graph or kind.refined or setting.get("nprobe", 0) > DEEPEST:
        return None

    def make() -> Any:
        resources = faiss().StandardGpuResources()
        copy = faiss().index_cpu_to_gpu(resources, 0, index)
        if "nprobe" in setting:
            faiss().GpuParameterSpace().set_index_parameter(copy, "nprobe", setting["nprobe"])
        copy.moeret_resources = resources  # it is used for as long as the index is
        return copy

    try:
        return Resident(make)
    except (RuntimeError, MemoryError):  # this kind is not for a GPU, or it does not fit there
        return None


def gpu_present() -> bool:
    """Whether FAISS was built for GPUs and sees one."""
    return hasattr(faiss(), "StandardGpuResources") and faiss().get_num_gpus() > 0
