"""FAISS over one table version: building, storing, loading, searching.

The index never changes after it was opened, so threads search it without a lock. Rows written after it was
built (the tail) are searched exactly beside it, rows that went since are passed over.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import BadVectorError, StoreCorruptError
from moe_retrieval.storage import exact, sidecar
from moe_retrieval.storage.engine import engine_faults, faiss
from moe_retrieval.storage.found import MAX_TIES, TIE_MARGIN, Found
from moe_retrieval.storage.lookup import distinct, places

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.storage.index import IndexInfo
    from moe_retrieval.storage.sidecar import Sidecar
    from moe_retrieval.storage.view import TableView

MAX_TAIL = 50_000
_FEW_ALLOWED = 5_000
_FEW_ALLOWED_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the positions of an index lie in a table version that may have moved on."""

    keys: np.ndarray
    """int64 (rows of the view): keys by row offset."""
    offsets: np.ndarray
    """int64 (positions of the index): row offset of each, -1 where the row went or has another vector now."""
    tail: np.ndarray
    """int64: row offsets that the index does not hold."""


def align(view: TableView, *, keys: np.ndarray, hashes: np.ndarray, same: bool) -> Alignment:
    """Compare an index's rows with the view's by (key, vector hash); `same`: built from this version."""
    if same and len(keys) == view.rows:
        return Alignment(keys, np.arange(len(keys)), np.zeros(0, np.int64))
    current_keys, current_hashes = view.key_vh()
    offsets = places(keys, among=current_keys, order=np.argsort(current_keys, kind="stable"))
    known = np.flatnonzero(offsets >= 0)
    offsets[known[current_hashes[offsets[known]] != hashes[known]]] = -1
    held = np.zeros(len(current_keys), bool)
    held[offsets[offsets >= 0]] = True
    return Alignment(current_keys, offsets, np.flatnonzero(~held))


def load(folder: Path, one: Sidecar) -> tuple[Any, np.ndarray, np.ndarray]:
    """The index of a side-car with its keys and vector hashes.

    Raises:
        StoreCorruptError: a file is missing or not the one that was written; it was not parsed then.
    """
    path = folder / f"{one.name}.faiss"
    keys, hashes = sidecar.read_rows(folder / f"{one.name}.npz", sha256=one.rows_sha256)
    sidecar.check(path, one.file_sha256)
    with engine_faults(f"read index {path.name}"):
        faiss().set_deserialization_vector_byte_limit(2 * one.bytes + (1 << 26))
        index = faiss().read_index(str(path), faiss().IO_FLAG_MMAP_IFC)
    right = (index.ntotal, index.d, index.metric_type) == (one.rows, one.dim, faiss().METRIC_INNER_PRODUCT)
    if not right or len(keys) != one.rows:
        raise StoreCorruptError(f"{path.name} is not the index its side-car describes", hint="it is rebuilt")
    return index, keys, hashes


class FaissIndex:
    """Search of one table version by cosine (vectors are of unit length, so it is their inner product)."""

    def __init__(
        self, index: Any, *, view: TableView, alignment: Alignment, info: IndexInfo, on_gpu: bool = True
    ) -> None:
        self.info = info
        self._view = view
        self._index = index
        self._flat = info.factory == "Flat"
        self._offsets = alignment.offsets
        self._keys = alignment.keys
        self._order = np.argsort(alignment.keys, kind="stable")
        self._live = alignment.offsets >= 0
        self._whole = bool(self._live.all())
        self._tail_offsets = alignment.tail
        self._tail_keys = alignment.keys[alignment.tail]
        self._tail = (
            view.vectors(alignment.tail) if len(alignment.tail) else np.zeros((0, view.dim), np.float32)
        )
        self._gpu = _gpu_copy(index) if on_gpu else None
        self._gpu_lock = threading.Lock()

    def search(self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None) -> list[Found]:
        """The k best rows per query, float32 (n, dim); fewer only where fewer exist.

        `allowed`: int64 keys to choose from.
        """
        wanted = np.ascontiguousarray(np.atleast_2d(queries), np.float32)
        if wanted.shape[1] != self._view.dim:
            raise BadVectorError(
                f"a query has width {wanted.shape[1]}, table {self._view.name} has {self._view.dim}",
                hint="query with the model the store was written with",
            )
        if allowed is None:
            return self._all(wanted, k=k)
        offsets = self.offsets(distinct(allowed))
        offsets = offsets[offsets >= 0]
        few = len(offsets) <= max(_FEW_ALLOWED, _FEW_ALLOWED_SHARE * len(self._keys))
        if few and not self._flat:
            return exact.search_at(self._view, wanted, k=k, keys=self._keys[offsets], offsets=offsets)
        chosen = np.zeros(len(self._keys), bool)
        chosen[offsets] = True
        return self._among(wanted, chosen, k=k, allowed=allowed)

    def offsets(self, keys: np.ndarray) -> np.ndarray:
        """Row offsets (int64) of keys in the pinned version; -1 for a key it does not hold."""
        return places(keys, among=self._keys, order=self._order)

    def _all(self, queries: np.ndarray, *, k: int) -> list[Found]:
        mask = None if self._whole else self._live
        return self._joined(queries, mask, np.ones(len(self._tail_keys), bool), k=k, allowed=None)

    def _among(self, queries: np.ndarray, chosen: np.ndarray, *, k: int, allowed: np.ndarray) -> list[Found]:
        mask = self._live.copy()
        mask[mask] = chosen[self._offsets[mask]]
        return self._joined(queries, mask, chosen[self._tail_offsets], k=k, allowed=allowed)

    def _joined(
        self,
        queries: np.ndarray,
        mask: np.ndarray | None,
        in_tail: np.ndarray,
        *,
        k: int,
        allowed: np.ndarray | None,
    ) -> list[Found]:
        """Index and tail together; an approximate search that came up short is done again exactly."""
        available = self._index.ntotal if mask is None else int(mask.sum())
        found = self._indexed(queries, mask, k=min(k, available), available=available)
        tail_keys, tail_scores = self._tail_keys[in_tail], queries @ self._tail[in_tail].T
        if any(len(one.keys) < min(k, available) for one in found):
            return exact.search_all(self._view, queries, k=k, allowed=allowed)
        if not len(tail_keys):
            return found
        return [
            exact.join(one, Found(tail_keys, row), k=k) for one, row in zip(found, tail_scores, strict=True)
        ]

    def _indexed(
        self, queries: np.ndarray, mask: np.ndarray | None, *, k: int, available: int
    ) -> list[Found]:
        """Search a little deeper than k, and deeper while equal scores straddle the cut: ties go by key."""
        if k < 1:
            return [Found.nothing() for _ in queries]
        depth = min(k + TIE_MARGIN, available)
        while True:
            scores, places = self._raw(queries, mask, depth=depth, available=available)
            straddles = depth > k and bool(np.any((places[:, -1] >= 0) & (scores[:, k - 1] == scores[:, -1])))
            if not straddles or depth >= min(available, max(MAX_TIES, k)):
                break
            depth = min(4 * depth, available)
        return [self._found(row, at, k=k) for row, at in zip(scores, places, strict=True)]

    def _found(self, scores: np.ndarray, places: np.ndarray, *, k: int) -> Found:
        hit = places >= 0
        return Found.ranked(self._keys[self._offsets[places[hit]]], scores[hit], k=k)

    def _raw(
        self, queries: np.ndarray, mask: np.ndarray | None, *, depth: int, available: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if self._gpu is not None and mask is None:
            with self._gpu_lock:
                return self._gpu.search(queries, depth)  # type: ignore[no-any-return]
        bits = None if mask is None else np.packbits(mask, bitorder="little")  # must outlive the search
        parameters = self._parameters(bits, depth=depth, share=available / max(1, self._index.ntotal))
        return self._index.search(queries, depth, params=parameters)  # type: ignore[no-any-return]

    def _parameters(self, bits: np.ndarray | None, *, depth: int, share: float) -> Any:
        """How hard to look: as calibrated, and harder the fewer rows may be chosen."""
        chosen = {} if bits is None else {"sel": faiss().IDSelectorBitmap(bits)}
        if self._flat:
            return faiss().SearchParameters(**chosen)
        effort = min(20.0, 1.0 / max(share, 1e-6))
        if "efSearch" in self.info.parameters:
            ef = int(self.info.parameters["efSearch"] * effort)
            return faiss().SearchParametersHNSW(efSearch=max(ef, depth), **chosen)
        lists = self.info.parameters["nlist"]
        deep = int(np.ceil(lists * 4 * depth / max(1, self._index.ntotal)))
        probes = min(lists, max(int(self.info.parameters["nprobe"] * effort), deep))
        return faiss().SearchParametersIVF(nprobe=probes, **chosen)


def _gpu_copy(index: Any) -> Any:
    """The index on the first GPU, for plain searches; None without a GPU build of FAISS, or for a graph.

    Not measured: no run of this project had faiss-gpu. GPU indexes are not safe even for two readers.
    """
    if not (faiss().get_num_gpus() > 0 and hasattr(faiss(), "StandardGpuResources")):
        return None
    if isinstance(faiss().downcast_index(index), faiss().IndexHNSW):
        return None
    return faiss().index_cpu_to_gpu(faiss().StandardGpuResources(), 0, index)
