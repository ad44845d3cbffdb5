"""Vector search by LanceDB itself: through the table's own index, or exact, by reading all vectors.

It needs no file beside the table and no FAISS, and is always up to date: rows that the table's index does not
hold are searched too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.storage.engine import engine_faults
from moe_retrieval.storage.found import untied
from moe_retrieval.storage.indexes import exact
from moe_retrieval.storage.indexes.lance_build import METRIC
from moe_retrieval.storage.tables.rows import VECTOR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.storage.found import Found
    from moe_retrieval.storage.indexes.protocol import IndexInfo
    from moe_retrieval.storage.tables.view import TableView

_LONGEST_LIST = 10_000


class LanceIndex:
    """Search of one table version. With `parameters` (`nprobes`, `refine_factor`) through its own index."""

    info: IndexInfo

    def __init__(
        self, view: TableView, *, info: IndexInfo | None = None, parameters: Mapping[str, int] | None = None
    ) -> None:
        if info is not None:
            self.info = info
        self._view = view
        self._parameters = dict(parameters or {})

    def search(self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None) -> list[Found]:
        """The k best rows per query, float32 (n, dim); fewer only where fewer exist.

        `allowed`: int64 keys to choose from.
        """
        wanted = exact.fit_queries(queries, view=self._view)
        if allowed is not None and len(allowed) > _LONGEST_LIST:
            return exact.search_all(self._view, wanted, k=k, allowed=allowed)
        return [self._one(query, k=k, allowed=allowed) for query in wanted]

    def offsets(self, keys: np.ndarray) -> np.ndarray | None:
        """None: rows are fetched by key."""
        return None

    def _one(self, query: np.ndarray, *, k: int, allowed: np.ndarray | None) -> Found:
        """By the index; where it comes up short, as it may under a filter, exactly."""
        where = None if allowed is None else f"key IN ({','.join(map(str, allowed.tolist())) or '-1'})"
        if self._parameters:
            found = self._nearest(query, k=k, where=where, how=self._parameters)
            if len(found.keys) >= min(k, self._view.rows):
                return found
        return self._nearest(query, k=k, where=where, how={"use_index": False})

    def _nearest(self, query: np.ndarray, *, k: int, where: str | None, how: Mapping[str, Any]) -> Found:
        def search(limit: int) -> tuple[np.ndarray, np.ndarray]:
            nearest = {"column": VECTOR, "q": query, "k": limit, "metric": METRIC, **how}
            with engine_faults(f"search table {self._view.name}"):
                found = self._view.dataset.scanner(
                    columns=["key", "_distance"], nearest=nearest, filter=where, prefilter=where is not None
                ).to_table()
            return found["key"].to_numpy(), 1.0 - found["_distance"].to_numpy()

        return untied(search, k=k)
