"""Small rows, vectors and stores for the storage tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.hashing import document_key
from moe_retrieval.storage.tables.rows import Row, to_batch
from moe_retrieval.types import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table
    from moe_retrieval.types import MetaValue

DIM = 8


def unit_vectors(count: int, *, dim: int = DIM, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def key_of(doc: str) -> int:
    return document_key(f"/corpus/{doc}.txt", doc)


def rows_of(
    doc: str,
    texts: Iterable[str],
    *,
    doc_hash: int = 1,
    parts: int | None = None,
    title: str = "",
    metadata: Mapping[str, MetaValue] | None = None,
) -> list[Row]:
    found = list(texts)
    chunks = [
        Chunk(
            doc_id=doc,
            source=f"/corpus/{doc}.txt",
            ordinal=at,
            start=0,
            end=len(text),
            text=text,
            title=title,
        )
        for at, text in enumerate(found)
    ]
    return [
        Row(chunk, parts=parts or len(found), doc_hash=doc_hash, metadata=metadata or {}) for chunk in chunks
    ]


def batch_of(rows: list[Row], *, seed: int = 0, dim: int = DIM) -> pa.RecordBatch:
    return to_batch(rows, unit_vectors(len(rows), dim=dim, seed=seed))


def filled(store: Store, texts: Mapping[str, str], *, domain: str = "cvd", maintain: bool = True) -> Table:
    """A table with one chunk per document."""
    table = store.create_table(domain, dim=DIM, fingerprint="space-one")
    table.write(batch_of([row for doc, text in texts.items() for row in rows_of(doc, [text])]))
    if maintain:
        table.maintain()
    return table


def published(store: Store, table: Table, *, domain: str = "cvd") -> DomainEntry:
    generation = store.catalog.publish(
        {domain: table.entry(expert="general")}, model={"name": "tiny"}, created="2026-01-01T00:00:00+00:00"
    )
    return generation.domains[domain]
