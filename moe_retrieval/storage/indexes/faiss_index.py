"""FAISS over one table version: loading and searching.

The index never changes after it was opened, so threads search it without a lock. Rows written after it was
built (the tail) are searched exactly beside it, rows that went since are passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.storage.engine import engine_faults, faiss
from moe_retrieval.storage.found import MAX_TIES, TIE_MARGIN, Found
from moe_retrieval.storage.indexes import exact, sidecar
from moe_retrieval.storage.indexes.faiss_choice import Kind, search_parameters
from moe_retrieval.storage.indexes.faiss_gpu import DEEPEST
from moe_retrieval.storage.indexes.slots import NO_KEY, Slots, check
from moe_retrieval.storage.lookup import distinct

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.storage.indexes.faiss_gpu import Resident
    from moe_retrieval.storage.indexes.protocol import IndexInfo
    from moe_retrieval.storage.indexes.sidecar import Sidecar
    from moe_retrieval.storage.tables.view import TableView

MAX_TAIL = 50_000
_FEW_ALLOWED = 5_000
_FEW_ALLOWED_SHARE = 0.05


def load(folder: Path, one: Sidecar, *, mapped: bool = True) -> tuple[Any, Slots]:
    """The index of a side-car and the rows it holds; not `mapped`, it is a copy that may be changed.

    Raises:
        StoreCorruptError: a file is missing or not the one that was written; it was not parsed then.
    """
    path = folder / f"{one.name}{sidecar.INDEX}"
    slots = Slots.read(
        path.with_suffix(sidecar.ROWS), sha256=one.rows_sha256, positions=one.positions, rows=one.rows
    )
    check(path, one.file_sha256)
    with engine_faults(f"read index {path.name}"):
        faiss().set_deserialization_vector_byte_limit(2 * one.bytes + (1 << 26))
        index = faiss().read_index(str(path), faiss().IO_FLAG_MMAP_IFC if mapped else 0)
    fits = index.ntotal in (one.rows, one.positions) and index.d == one.dim
    if not fits or index.metric_type != faiss().METRIC_INNER_PRODUCT:
        raise StoreCorruptError(f"{path.name} is not the index its side-car describes", hint="it is rebuilt")
    return index, slots


class FaissIndex:
    """Search of one table version by cosine (vectors are of unit length, so it is their inner product).

    `resident`: a copy on the GPU, which answers where nothing is filtered.
    """

    def __init__(
        self, index: Any, *, view: TableView, slots: Slots, info: IndexInfo, resident: Resident | None = None
    ) -> None:
        self.info = info
        self._view = view
        self._index = index
        self._kind = Kind(info.factory)
        self._slots = slots
        self._live = slots.offsets >= 0
        self._whole = not np.any(slots.keys[~self._live] != NO_KEY)
        self._resident = resident
        self._tail_keys = np.zeros(0, np.int64)
        self._tail = np.zeros((0, view.dim), np.float32)
        if len(slots.tail):
            rows = view.take(slots.tail, columns=["key"])
            self._tail_keys, self._tail = rows["key"].to_numpy(), view.vectors(slots.tail)

    def search(self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None) -> list[Found]:
        """The k best rows per query, float32 (n, dim); fewer only where fewer exist.

        `allowed`: int64 keys to choose from.
        """
        wanted = exact.fit_queries(queries, view=self._view)
        if allowed is None:
            mask = None if self._whole else self._live
            return self._joined(wanted, mask, np.ones(len(self._tail_keys), bool), k=k, allowed=None)
        keys = distinct(allowed)
        offsets = self.offsets(keys)
        keys, offsets = keys[offsets >= 0], offsets[offsets >= 0]
        few = len(offsets) <= max(_FEW_ALLOWED, _FEW_ALLOWED_SHARE * self._view.rows)
        if few and self._kind.factory != "Flat":
            return exact.search_at(self._view, wanted, k=k, keys=keys, offsets=offsets)
        chosen = np.zeros(self._view.rows, bool)
        chosen[offsets] = True
        mask = self._live.copy()
        mask[mask] = chosen[self._slots.offsets[mask]]
        return self._joined(wanted, mask, chosen[self._slots.tail], k=k, allowed=allowed)

    def offsets(self, keys: np.ndarray) -> np.ndarray:
        """Row offsets (int64) of keys in the pinned version; -1 for a key it does not hold."""
        return self._slots.offsets_of(keys)

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
            scores, at = self._raw(queries, mask, depth=depth, available=available)
            straddles = depth > k and bool(np.any((at[:, -1] >= 0) & (scores[:, k - 1] == scores[:, -1])))
            if not straddles or depth >= min(available, max(MAX_TIES, k)):
                break
            depth = min(4 * depth, available)
        return [self._found(row, mine, k=k) for row, mine in zip(scores, at, strict=True)]

    def _found(self, scores: np.ndarray, at: np.ndarray, *, k: int) -> Found:
        hit = at >= 0
        return Found.ranked(self._slots.keys[at[hit]], scores[hit], k=k)

    def _raw(
        self, queries: np.ndarray, mask: np.ndarray | None, *, depth: int, available: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if (resident := self._resident) is not None and mask is None and depth <= DEEPEST:
            try:
                return resident.search(queries, depth)
            except RuntimeError:  # no memory left there, say: the CPU goes on
                self._resident = None
        bits = None if mask is None else np.packbits(mask, bitorder="little")  # must outlive the search
        selector = None if bits is None else faiss().IDSelectorBitmap(bits)
        setting = self._setting(depth=depth, share=available / max(1, self._index.ntotal))
        parameters = search_parameters(setting, selector)
        return self._index.search(queries, depth, params=parameters)  # type: ignore[no-any-return]

    def _setting(self, *, depth: int, share: float) -> dict[str, int]:
        """How hard to look: as calibrated, and harder the fewer rows may be chosen."""
        setting = dict(self.info.parameters)
        effort = min(20.0, 1.0 / max(share, 1e-6))
        if "efSearch" in setting:
            setting["efSearch"] = max(int(setting["efSearch"] * effort), depth)
        if "nprobe" in setting:
            lists, wide = setting["nlist"], depth * setting.get("k_factor", 1)
            deep = int(np.ceil(lists * 4 * wide / max(1, self._index.ntotal)))
            setting["nprobe"] = min(lists, max(int(setting["nprobe"] * effort), deep))
        return setting
