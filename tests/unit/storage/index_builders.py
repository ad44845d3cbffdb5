"""Tables, queries and exact answers for the tests of indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from storage_builders import key_of, rows_of, unit_vectors

from moe_retrieval.storage.index import open_index
from moe_retrieval.storage.indexes import faiss_choice
from moe_retrieval.storage.tables.rows import to_batch

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.index import VectorIndex
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table
    from moe_retrieval.storage.tables.view import Found, TableView

DIM = 16
COUNT = 1_500
QUERIES = unit_vectors(20, dim=DIM, seed=77)


def write(table: Table, docs: Iterable[int], *, seed: int, replaces: bool = False) -> None:
    """One row of a random vector per document; `replaces` those of the same documents."""
    numbers = list(docs)
    rows = [rows_of(f"d{at}", [f"text {at}"])[0] for at in numbers]
    vectors = unit_vectors(len(rows), dim=DIM, seed=seed)
    table.write(to_batch(rows, vectors), replaces=keys_of(numbers) if replaces else None)


def keys_of(docs: Iterable[int]) -> np.ndarray:
    """Keys of documents by their numbers."""
    return np.array([key_of(f"d{at}") for at in docs], np.int64)


def large_table(store: Store, *, rows: int = COUNT) -> Table:
    table = store.create_table("cvd", dim=DIM, fingerprint="space-one")
    write(table, range(rows), seed=0)
    return table


def only(monkeypatch: pytest.MonkeyPatch, factory: str) -> None:
    """Let there be one kind of index."""
    kinds = (faiss_choice.Kind(factory),)
    monkeypatch.setattr(faiss_choice, "candidates", lambda _rows, *, dim, memory=0: kinds)
    monkeypatch.setattr(faiss_choice, "FLAT_ROWS", 100)


def truth(view: TableView, *, k: int = 10, allowed: np.ndarray | None = None) -> list[set[int]]:
    """Keys of the k nearest rows of each query, by reading all vectors."""
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
