"""The new table of one domain, beside the live one: written in batches, gone on with after a kill."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.retrieval.indexing import Indexing, tidy
from moe_retrieval.retrieval.ingest.writer import COMPACT_EVERY
from moe_retrieval.retrieval.rebuilding.rechunk import joined
from moe_retrieval.retrieval.rebuilding.verification import verify
from moe_retrieval.storage.lookup import distinct, places
from moe_retrieval.storage.tables import sums
from moe_retrieval.storage.tables.rows import CONTENT, VECTOR, Row, to_batch, with_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.retrieval.rebuilding.embedded import Embedded
    from moe_retrieval.retrieval.rebuilding.plan import DomainPlan
    from moe_retrieval.retrieval.rebuilding.rechunk import Rereading, Taken
    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table
    from moe_retrieval.types import Rejected


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of one domain. `entry` is None where nothing had to be written; `kept` documents have their
    old chunks though others were cut anew.
    """

    entry: DomainEntry | None
    encoded: int = 0
    kept: int = 0
    rejections: tuple[Rejected, ...] = ()


@dataclass(slots=True)
class Rebuild:
    """Carries out the plan of one domain, under the writer lease.

    `embedded`: vectors that need not be computed again. `reading`: the documents, where they are cut anew.
    `progress` hears the domain and the chunks just written, after every batch.
    """

    store: Store
    plan: DomainPlan
    entry: DomainEntry
    encoder: Encoder
    window: int
    indexing: Indexing = field(default_factory=Indexing)
    embedded: Embedded | None = None
    reading: Rereading | None = None
    progress: Callable[[str, int], None] | None = None
    encoded: int = 0
    _made: Table | None = field(default=None, init=False)
    _commits: int = field(default=0, init=False)

    def run(self, *, needed: bool) -> Rebuilt:
        """The checked table as the catalog will name it. Without `needed`, nothing is written unless a
        document is cut anew.

        Raises:
            StoreError: what was written is not what was to be written; it was removed.
        """
        if self.reading is not None:
            self._recut(self.reading)
        if not needed and self.reading is not None and not len(self.reading.taken):
            return Rebuilt(None, kept=self.reading.kept, rejections=self.reading.rejections())
        sums.verify_rows(self.store.place, self.entry.table, self.entry.sums)  # damage is not copied
        keys, hashes = self._expected()
        self._drop_outdated(keys, hashes)
        self._copy()
        table = self._table()
        tidy(self.store, table, indexing=self.indexing)
        entry = self._sealed(table)
        verify(self.store, entry, keys=keys, hashes=hashes, live=self._kept_keys(), check=self._encode)
        kept, rejections = (self.reading.kept, self.reading.rejections()) if self.reading else (0, ())
        return Rebuilt(entry, self.encoded, kept=kept, rejections=rejections)

    # --- documents that are cut anew ----------------------------------------------------------------------

    def _recut(self, reading: Rereading) -> None:
        """Write the chunks of every document that is as it was indexed, whole documents at a time."""
        waiting: list[Row] = []
        replaced: set[int] = set()
        stored = self._stored()
        for taken in reading.documents():
            held = stored.get(taken.key)
            if held == (taken.digest, True):
                continue  # a run that was killed wrote it
            waiting += _rows(taken, reading)
            replaced |= {taken.key} if held else set()
            if len(waiting) >= self.window:
                self._write_rows(waiting, replaced)
                waiting, replaced = [], set()
        self._write_rows(waiting, replaced)

    def _stored(self) -> dict[int, tuple[int, bool]]:
        """Content hash and completeness of each document that a killed run left in the new table."""
        found = self._unfinished()
        if found is None:
            return {}
        keys, hashes, complete = found.documents()
        values = zip(hashes.tolist(), complete.tolist(), strict=True)
        return dict(zip(keys.tolist(), values, strict=True))

    def _write_rows(self, rows: Sequence[Row], replaced: set[int]) -> None:
        if rows:
            vectors = self._vectors([row.chunk.content for row in rows])
            self._write(to_batch(rows, vectors), replaces=np.array(sorted(replaced), np.int64))

    # --- rows that only get other vectors -----------------------------------------------------------------

    def _expected(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys (int64, ascending) and content hashes of the documents that the new table must hold."""
        if self.reading is not None:
            return self.reading.keys, self.reading.hashes
        batches = list(self.store.view(self.entry).batches(("doc_key", "doc_hash")))
        keys = np.concatenate([np.zeros(0, np.int64), *(one["doc_key"].to_numpy() for one in batches)])
        hashes = np.concatenate([np.zeros(0, np.int64), *(one["doc_hash"].to_numpy() for one in batches)])
        keys, first = np.unique(keys, return_index=True)
        return keys, hashes[first]

    def _drop_outdated(self, keys: np.ndarray, hashes: np.ndarray) -> None:
        """Take out of the new table what it holds of other contents: the store changed since it was begun."""
        table = self._table()
        stored = table.documents()
        at = places(stored.keys, among=keys)
        same = (at >= 0) & (hashes[at] == stored.hashes if len(hashes) else False)
        if not same.all():
            table.delete_documents(stored.keys[~same])

    def _copy(self) -> None:
        """Write the live rows that the new table lacks, but for the documents that were cut anew."""
        done, taken = distinct(self._table().keys()), self._taken()
        for batch in self._live_rows():
            missing = places(batch["key"].to_numpy(), among=done) < 0
            missing &= places(batch["doc_key"].to_numpy(), among=taken) < 0
            if missing.any():
                rows = batch if missing.all() else batch.filter(_mask(missing))
                self._write(with_vectors(rows, self._vectors(rows[CONTENT].to_pylist())))

    def _live_rows(self) -> Iterator[pa.RecordBatch]:
        view = self.store.view(self.entry)
        columns = [name for name in view.dataset.schema.names if name not in ("vh", VECTOR)]
        return view.batches(columns, size=self.window)

    def _taken(self) -> np.ndarray:
        return self.reading.taken if self.reading else np.zeros(0, np.int64)

    def _kept_keys(self) -> np.ndarray:
        """Keys (int64) of the live rows that the new table must hold, too."""
        taken = self._taken()
        parts = [
            batch["key"].to_numpy()[places(batch["doc_key"].to_numpy(), among=taken) < 0]
            for batch in self.store.view(self.entry).batches(("key", "doc_key"))
        ]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    # --- writing ------------------------------------------------------------------------------------------

    def _unfinished(self) -> Table | None:
        """The new table as a killed run left it."""
        if self._made is None:
            self._made = self.store.unpublished(self.plan.domain, fingerprint=self.plan.target)
            if self._made is not None and self.progress and (rows := self._made.rows):
                self.progress(self.plan.domain, rows)
        return self._made

    def _table(self) -> Table:
        """The new table: the one that a killed run left, or an empty one."""
        table = self._unfinished() or self.store.create_table(
            self.plan.domain, dim=self.encoder.dim, fingerprint=self.plan.target
        )
        self._made = table
        return table

    def _write(self, batch: pa.RecordBatch, *, replaces: np.ndarray | None = None) -> None:
        table = self._table()
        table.write(batch, replaces=replaces)
        self._commits += 1
        if self._commits % COMPACT_EVERY == 0:
            table.compact()
        if self.progress:
            self.progress(self.plan.domain, batch.num_rows)

    def _vectors(self, contents: list[str]) -> np.ndarray:
        """Vectors, float32 (n, dim): those that are there already, the others computed."""
        if self.embedded is None:
            self.encoded += len(contents)
            return self._encode(contents)
        there, known = self.embedded.vectors(contents)
        vectors = np.empty((len(contents), self.encoder.dim), np.float32)
        vectors[there] = known
        if fresh := [text for text, has in zip(contents, there, strict=True) if not has]:
            vectors[~there] = self._encode(fresh)
            self.encoded += len(fresh)
        return vectors

    def _encode(self, contents: list[str]) -> np.ndarray:
        return self.encoder.encode_document(contents, domain=self.plan.domain)

    def _sealed(self, table: Table) -> DomainEntry:
        chunking = self.entry.chunking
        if self.reading is not None and len(self.reading.taken):
            fresh = self.reading.chunker.identity
            chunking = joined(chunking, fresh) if self.reading.kept else fresh
        return table.entry(
            expert=self.encoder.expert_of(self.plan.domain),
            description=self.entry.description,
            precision=str(self.encoder.precision),
            chunking=chunking,
        )


def _rows(taken: Taken, reading: Rereading) -> list[Row]:
    document = taken.document
    chunks = reading.chunker.chunk(document)
    return [
        Row(chunk, parts=len(chunks), doc_hash=taken.digest, metadata=document.metadata) for chunk in chunks
    ]


def _mask(chosen: np.ndarray) -> pa.Array:
    import pyarrow as pa

    return pa.array(chosen)
