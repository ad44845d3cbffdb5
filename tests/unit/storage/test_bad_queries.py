"""A query without a direction is refused by every engine, by its place; no row is nearest to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from storage_builders import DIM, filled, published, unit_vectors

from moe_retrieval.errors import BadVectorError
from moe_retrieval.storage.index import IndexInfo, open_index
from moe_retrieval.storage.indexes.lance_index import LanceIndex

if TYPE_CHECKING:
    from moe_retrieval.storage.index import VectorIndex
    from moe_retrieval.storage.store import Store


def engines(store: Store) -> list[VectorIndex]:
    entry = published(store, filled(store, {"a": "heart", "b": "lung"}))
    view = store.view(entry)
    by_faiss = open_index(view, folder=store.indexes_dir, entry=entry, notify=lambda _message: None)
    return [by_faiss, LanceIndex(view, info=IndexInfo(engine="lance", factory="exact", rows=2))]


@pytest.mark.parametrize(
    ("bad", "what"), [(np.nan, "is not finite"), (np.inf, "is not finite"), (0.0, "is zero")]
)
def test_a_query_without_a_direction_is_refused(store: Store, bad: float, what: str) -> None:
    queries = unit_vectors(3)
    queries[1] *= bad
    for engine in engines(store):
        with pytest.raises(BadVectorError, match=f"the vector of query 1 {what}"):
            engine.search(queries, k=2)


def test_a_query_of_another_width_is_refused(store: Store) -> None:
    for engine in engines(store):
        with pytest.raises(BadVectorError, match=f"a query has width {DIM + 1}"):
            engine.search(unit_vectors(1, dim=DIM + 1), k=2)
