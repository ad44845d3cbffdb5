"""What every engine of vector search does, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from moe_retrieval.storage.found import Found
    from moe_retrieval.storage.indexes.sidecar import Sidecar

AUTO, FAISS, LANCE = "auto", "faiss", "lance"
"""Engines that may be asked for."""

RECALL = 0.98


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What answers vector searches of a domain. `tail`: rows it does not hold, searched exactly."""

    engine: str
    factory: str
    rows: int
    tail: int = 0
    recall_at_10: float | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    built: str = ""
    notice: str = ""
    ms: float = 0.0

    @classmethod
    def of(cls, one: Sidecar, *, tail: int = 0, notice: str = "") -> IndexInfo:
        """What a FAISS index's side-car says."""
        return cls(
            engine=FAISS,
            factory=one.factory,
            rows=one.rows,
            tail=tail,
            recall_at_10=one.recall_at_10,
            parameters=dict(one.parameters),
            bytes=one.bytes,
            built=one.built,
            notice=notice,
            ms=one.ms,
        )


class VectorIndex(Protocol):
    """Search by cosine over one table version."""

    info: IndexInfo

    def search(self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None) -> list[Found]:
        """The k best rows per query, float32 (n, dim); `allowed`: int64 keys to choose from."""
        ...

    def offsets(self, keys: np.ndarray) -> np.ndarray | None:
        """Row offsets of keys in the version searched, a hint for fetching them; None if unknown."""
        ...
