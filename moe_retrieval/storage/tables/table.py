"""One domain's table as its writer sees it: the latest version. Used under the store's lease."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from moe_retrieval.errors import BadVectorError, StoreConflictError
from moe_retrieval.storage.catalog import DomainEntry
from moe_retrieval.storage.engine import batches_of, engine_faults
from moe_retrieval.storage.found import Found as Found
from moe_retrieval.storage.lookup import distinct, places
from moe_retrieval.storage.tables import sums
from moe_retrieval.storage.tables.budget import joined_below, text_index_lags
from moe_retrieval.storage.tables.digest import digest_of
from moe_retrieval.storage.tables.rows import (
    AFTER,
    CONTENT,
    FINGERPRINT,
    MAX_FIELDS,
    VECTOR,
    align,
    metadata_columns,
    schema,
)
from moe_retrieval.storage.tables.torn import names_of, refuse_torn
from moe_retrieval.storage.tables.upkeep import refuse_damaged, text_index_is_whole
from moe_retrieval.storage.tables.view import TableView as TableView

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_retrieval.storage.places.place import Place

TEXT_ANALYSIS = {"with_position": False, "base_tokenizer": "simple", "language": "English", "stem": True}
"""How texts become words; what is not named here is as LanceDB's `FTS` has it."""

_ATTEMPTS, _PAUSE = 5, 0.02
"""Times that a write is tried while others get in between, and seconds before the first try again."""

_KEYS_PER_DELETE = 10_000
_SOURCES_REMEMBERED = 4_096


class StoredDocuments(NamedTuple):
    """A table's documents by key: int64 keys, int64 content hashes, and whether all parts are there, once."""

    keys: np.ndarray
    hashes: np.ndarray
    complete: np.ndarray


class Table:
    """The latest version of a table. `after`: number of the generation that was live when it was made.

    `recorded`: name of the newest list of checksums of its files, empty where there is none.
    """

    def __init__(self, place: Place, *, name: str, recorded: str = "") -> None:
        self.place = place
        self.name = name
        self.recorded = recorded
        self._replacer: Any = None
        with engine_faults(f"open table {name}"):
            dataset = self._dataset()
            found = dataset.schema
            self.dim: int = found.field(VECTOR).type.list_size
            notes = found.metadata or {}
            self.fingerprint: str = bytes(notes.get(FINGERPRINT, b"")).decode()
            self.after = int(notes.get(AFTER, b"0"))
        self._files = names_of(place, name, dataset)

    @classmethod
    def create(cls, place: Place, *, name: str, dim: int, fingerprint: str, after: int) -> Table:
        """An empty table. Its text index exists from the start: rows it does not hold yet are searched with
        its stemming and stop words all the same.
        """
        with engine_faults(f"create table {name}"):
            columns = schema(dim, fingerprint=fingerprint, after=after)
            place.create_dataset(name, columns.empty_table())
        table = cls(place, name=name)
        table.rebuild_text_index()
        return table

    @property
    def version(self) -> int:
        with engine_faults(f"open table {self.name}"):
            return int(self._dataset().version)

    @property
    def rows(self) -> int:
        with engine_faults(f"count the rows of table {self.name}"):
            return int(self._dataset().count_rows())

    def documents(self) -> StoredDocuments:
        """What is stored of which documents; one that a killed run left in parts is not complete."""
        table = self._columns("doc_key", "doc_hash", "parts")
        keys, hashes, parts = (table[name].to_numpy() for name in ("doc_key", "doc_hash", "parts"))
        order = np.argsort(keys, kind="stable")
        keys, hashes, parts = keys[order], hashes[order], parts[order]
        unique, first, counts = np.unique(keys, return_index=True, return_counts=True)
        same = np.ones(len(keys), bool)
        same[1:] = (keys[1:] != keys[:-1]) | ((hashes[1:] == hashes[:-1]) & (parts[1:] == parts[:-1]))
        uniform = np.logical_and.reduceat(same, first) if len(unique) else np.zeros(0, bool)
        return StoredDocuments(unique, hashes[first], uniform & (counts == parts[first]))

    def keys(self) -> np.ndarray:
        """Keys (int64) of all rows."""
        return np.asarray(self._columns("key")["key"].to_numpy())

    def documents_from(self, matches: Callable[[str], bool], keys: np.ndarray) -> np.ndarray:
        """Those of the documents `keys` (int64, ascending) whose source `matches`, ascending."""
        judge = lru_cache(_SOURCES_REMEMBERED)(matches)
        waiting, chosen = np.ones(len(keys), bool), np.zeros(len(keys), bool)
        reading = f"read the sources of table {self.name}"
        for batch in batches_of(self._dataset(), columns=["doc_key", "source"], doing=reading):
            at = places(batch["doc_key"].to_numpy(), among=keys)
            rows = np.flatnonzero(at >= 0)
            rows = rows[waiting[at[rows]]]  # a document has one source: its other rows are not looked at
            sources = batch["source"].take(pa.array(rows)).dictionary_encode()
            verdicts = np.array([judge(source) for source in sources.dictionary.to_pylist()], bool)
            chosen[at[rows]] = verdicts[sources.indices.to_numpy()]
            waiting[at[rows]] = False
        return keys[chosen]

    def write(self, batch: pa.RecordBatch, *, replaces: np.ndarray | None = None) -> None:
        """Add rows in one commit; what else is stored of the documents `replaces` (int64 keys) goes in it.

        Raises:
            BadVectorError: the vectors are not of the table's width.
            StoreConflictError: another writer got in between, again and again.
        """
        width = batch.schema.field(VECTOR).type.list_size
        if width != self.dim:
            raise BadVectorError(
                f"vectors of width {width} do not fit table {self.name} of width {self.dim}",
                hint="moeret reindex",
            )
        self._add_fields(batch)
        rows = align(batch, self._schema())
        doing = f"write {batch.num_rows} rows to table {self.name}"
        for attempt in range(_ATTEMPTS):
            try:
                self._commit(rows, replaces, doing)
                return self._check(doing)
            except StoreConflictError:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_PAUSE * 2**attempt)

    def delete_documents(self, keys: np.ndarray) -> int:
        """Remove all rows of these documents; how many rows that were comes back."""
        doomed = distinct(keys)
        before = self.rows
        doing = f"delete documents from table {self.name}"
        with engine_faults(doing):
            for start in range(0, len(doomed), _KEYS_PER_DELETE):
                self._replacing().delete(_any_of(doomed[start : start + _KEYS_PER_DELETE]))
        self._check(doing)
        return before - self.rows

    def drop_twins(self) -> int:
        """Remove the rows whose key an earlier row has; how many that were comes back.

        No write makes any. A first version did, where Ctrl-C met a commit; replacing such a row keeps both.
        """
        doing = f"remove what stands twice from table {self.name}"
        with engine_faults(doing):
            table = self._dataset().to_table(columns=["key"], with_row_id=True)
            twin = np.ones(table.num_rows, bool)
            twin[np.unique(table["key"].to_numpy(), return_index=True)[1]] = False
            doomed = table["_rowid"].to_numpy()[twin].tolist()
            for start in range(0, len(doomed), _KEYS_PER_DELETE):
                few = doomed[start : start + _KEYS_PER_DELETE]
                self._dataset().delete(f"_rowid IN ({','.join(map(str, few))})")
        self._check(doing)
        return len(doomed)

    def compact(self) -> None:
        """Join small fragments where there are many. Old versions stay: they may be pinned.

        Raises:
            StoreCorruptError: a file that would be copied is not as it was written.
        """
        dataset = self._dataset()
        if not (target := joined_below(dataset)):
            return
        options = {"target_rows_per_fragment": target}
        refuse_damaged(self.place, self.name, dataset, recorded=self.recorded, options=options)
        with engine_faults(f"tidy table {self.name}"):
            dataset.optimize.compact_files(**options)
        self._check(f"tidy table {self.name}")

    def restore(self, version: int) -> None:
        """Make the content of an older version the latest again."""
        with engine_faults(f"restore table {self.name} to version {version}"):
            self.place.dataset(self.name, version=version).restore()

    def maintain(self) -> None:
        """Join small fragments and update the text index, where it is worth it. Old versions stay."""
        if not text_index_is_whole(self.place, self.name, self._dataset(), recorded=self.recorded):
            self.rebuild_text_index()
        self.compact()
        with engine_faults(f"tidy table {self.name}"):
            dataset = self._dataset()
            if not text_index_lags(dataset):
                return
            dataset.optimize.optimize_indices()
        self._check(f"tidy table {self.name}")

    def rebuild_text_index(self) -> None:
        """Build the text index anew from all rows, whatever became of the one there is."""
        doing = f"build the text index of table {self.name}"
        with engine_faults(doing):
            self._dataset().create_scalar_index(CONTENT, "INVERTED", replace=True, **TEXT_ANALYSIS)
        self._check(doing)

    def entry(
        self,
        *,
        expert: str,
        description: str = "",
        precision: str = "fp32",
        chunking: str = "",
        before: DomainEntry | None = None,
    ) -> DomainEntry:
        """What a generation records of the table as it is now. `before`: what the last one recorded."""
        with engine_faults(f"read table {self.name}"):
            dataset = self._dataset()
            table = dataset.to_table(columns=["key", "vh", "doc_key"])
        keys = table["key"].to_numpy()
        known = before.sums if before and before.table == self.name else self.recorded
        self.recorded = sums.record(self.place, table=self.name, dataset=dataset, previous=known)
        return DomainEntry(
            table=self.name,
            version=int(dataset.version),
            rows=len(keys),
            documents=len(distinct(table["doc_key"].to_numpy())),
            digest=digest_of(keys, table["vh"].to_numpy()),
            fingerprint=self.fingerprint,
            expert=expert,
            description=description,
            precision=precision,
            chunking=chunking,
            sums=self.recorded,
        )

    def _check(self, doing: str) -> None:
        """Whether what was just written is whole; what was there before is not looked at."""
        dataset = self._dataset()
        refuse_torn(self.place, self.name, dataset, known=self._files, doing=doing)
        self._files = names_of(self.place, self.name, dataset)

    def _dataset(self) -> Any:
        return self.place.dataset(self.name)

    def _schema(self) -> pa.Schema:
        return self._dataset().schema

    def _columns(self, *names: str) -> pa.Table:
        with engine_faults(f"read table {self.name}"):
            return self._dataset().to_table(columns=[*names])

    def _replacing(self) -> Any:
        """LanceDB's handle, at the latest version: after a conflict it fails until it is told to look."""
        if self._replacer is None:
            self._replacer = self.place.lancedb().open_table(self.name)
        self._replacer.checkout_latest()
        return self._replacer

    def _add_fields(self, batch: pa.RecordBatch) -> None:
        """Give new metadata fields a column, up to the limit; adding empty columns writes no data."""
        with engine_faults(f"add fields to table {self.name}"):
            have = self._schema().names
            room = MAX_FIELDS - len(metadata_columns(have))
            new = [name for name in metadata_columns(batch.schema.names) if name not in have][:room]
            if new:
                self._dataset().add_columns([pa.field(name, batch.schema.field(name).type) for name in new])

    def _commit(self, rows: pa.Table, replaces: np.ndarray | None, doing: str) -> None:
        with engine_faults(doing):
            if replaces is None or len(replaces) == 0:
                self._dataset().insert(rows)
                return
            merge = self._replacing().merge_insert("id")
            merge = merge.when_matched_update_all().when_not_matched_insert_all()
            merge = merge.when_not_matched_by_source_delete(_any_of(distinct(replaces)))
            merge.use_index(False).execute(rows)  # with a scalar index on id the check for twins is skipped


def _any_of(keys: np.ndarray) -> str:
    return f"doc_key IN ({','.join(str(int(key)) for key in keys)})"
