"""One domain being written: rows wait until a window is full, then are encoded and stored in one commit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.corpus.changes import KnownDocuments
from moe_retrieval.retrieval.rebuilding.rechunk import joined
from moe_retrieval.storage.engine import prepare_indexing, prepare_replacing
from moe_retrieval.storage.tables.rows import to_batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.tables.rows import Row
    from moe_retrieval.storage.tables.table import Table


COMPACT_EVERY = 64
"""Commits of a run after which small fragments are joined."""


@dataclass(slots=True)
class DomainWriter:
    """The table of one domain with the rows that wait for it.

    `settled`: documents that this run found or left cut as its chunker cuts them.
    """

    domain: str
    table: Table
    encoder: Encoder
    entry: DomainEntry | None = None
    waiting: list[Row] = field(default_factory=list)
    replaced: set[int] = field(default_factory=set)
    leaving: set[int] = field(default_factory=set)
    settled: int = 0
    commits: int = 0

    def known(self, *, mend: bool) -> KnownDocuments:
        """What the table holds; with `mend`, what stands twice there is taken out first."""
        stored = self.table.documents()
        if mend and not stored.complete.all() and self.table.drop_twins():
            stored = self.table.documents()
        return KnownDocuments(self.domain, *stored)

    def add(self, rows: Sequence[Row], *, key: int, replaces: bool) -> None:
        """Queue all rows of one document; with `replaces`, its old rows go in the same commit."""
        self.waiting += rows
        self.settled += 1
        self.encoder.prepare(self.domain)
        prepare_indexing()
        replaces = replaces or key in self.leaving
        self.leaving.discard(key)
        if replaces:
            prepare_replacing()
            self.replaced.add(key)

    def remove(self, keys: Iterable[int]) -> None:
        """Queue the removal of documents."""
        self.leaving.update(keys)

    def flush(self) -> int:
        """Encode and store what waits; gives the number of chunks encoded."""
        encoded = len(self.waiting)
        if self.waiting:
            texts = [row.chunk.content for row in self.waiting]
            vectors = self.encoder.encode_document(texts, domain=self.domain)
            self.table.write(to_batch(self.waiting, vectors), replaces=_keys(self.replaced))
            self._keep_tidy()
        self.waiting, self.replaced = [], set()
        return encoded

    def drop(self) -> None:
        """Remove the documents that are to leave."""
        if self.leaving:
            self.table.delete_documents(_keys(self.leaving))
        self.leaving = set()

    def changed(self) -> bool:
        """Whether the table is another than the one the catalog records."""
        return self.entry is None or (self.entry.table, self.entry.version) != (
            self.table.name,
            self.table.version,
        )

    def seal(self, *, chunking: str) -> DomainEntry:
        """What a generation records of this table as it is now; where older cuts remain, both are named."""
        entry = self.table.entry(
            expert=self.encoder.expert_of(self.domain),
            description=self.entry.description if self.entry else "",
            precision=str(self.encoder.precision),
            chunking=chunking,
            before=self.entry,
        )
        older = self.entry.chunking if self.entry else ""
        if older in ("", chunking) or self.settled >= entry.documents:
            return entry
        return replace(entry, chunking=joined(older, chunking))

    def _keep_tidy(self) -> None:
        """Join fragments in the course of a long run: each commit adds one, and each costs every reader."""
        self.commits += 1
        if self.commits % COMPACT_EVERY == 0:
            self.table.compact()


def _keys(keys: set[int]) -> np.ndarray:
    return np.array(sorted(keys), dtype=np.int64)
