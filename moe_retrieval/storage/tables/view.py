"""One table at one version: reading, searching text, filtering. It never changes: threads may share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.storage.engine import batches_of, engine_faults
from moe_retrieval.storage.found import untied
from moe_retrieval.storage.tables.digest import digest_of
from moe_retrieval.storage.tables.kinds import kinds_of
from moe_retrieval.storage.tables.predicates import to_sql
from moe_retrieval.storage.tables.rows import CONTENT, FINGERPRINT, VECTOR, to_numpy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from moe_retrieval.filters import Filter
    from moe_retrieval.storage.found import Found
    from moe_retrieval.storage.places.place import Place
    from moe_retrieval.storage.tables.kinds import Kind
    from moe_retrieval.storage.tables.predicates import Known

HIT_COLUMNS = (
    "key",
    "id",
    "doc_id",
    "source",
    "title",
    "section",
    "page",
    "start",
    "end",
    "lead",
    "content",
    "meta",
)
"""All that a hit is made of: what `TableView.fetch` gives unless other columns are named."""


class TableView:
    """A table as one generation pinned it."""

    def __init__(self, place: Place, *, name: str, version: int) -> None:
        self.name = name
        self.version = version
        with engine_faults(f"open table {name} at version {version}"):
            self.dataset: Any = place.dataset(name, version=version)
            self._columns: list[str] = list(self.dataset.schema.names)
            self.dim: int = self.dataset.schema.field(VECTOR).type.list_size
            self.rows: int = self.dataset.count_rows()
        self._matched: tuple[str | None, np.ndarray] = (None, np.zeros(0, np.int64))

    @property
    def fingerprint(self) -> str:
        """What the table itself says its vectors were made with."""
        return bytes((self.dataset.schema.metadata or {}).get(FINGERPRINT, b"")).decode()

    def fields(self) -> dict[str, frozenset[Kind]]:
        """Names that a filter may use on this table, and the kinds of values that each has."""
        return kinds_of(self._columns)

    def search_text(self, query: str, *, k: int, where: Filter | None = None, known: Known = ()) -> Found:
        """The k best rows by BM25 over `content`; a row needs one of the query's words.

        Rows written after the last index run are searched too. The query is words, never syntax: no text can
        make it fail. `known` are filter fields that other tables of the store have.
        """
        sql = self._sql(where, known)
        return untied(lambda limit: self._bm25(query, limit=limit, where=sql), k=k)

    def matching(self, where: Filter, *, known: Known = ()) -> np.ndarray:
        """Keys (int64) of the rows a filter matches. Those of the last filter are kept: a batch shares it."""
        sql = self._sql(where, known)
        last, keys = self._matched
        if sql != last:
            table = self._read(["key"], "apply the filter", filter=sql)
            keys = np.asarray(table["key"].to_numpy(), np.int64)
            self._matched = sql, keys
        return keys

    def fetch(
        self, keys: np.ndarray, *, offsets: np.ndarray | None = None, columns: Sequence[str] = HIT_COLUMNS
    ) -> pa.Table:
        """The rows with these keys, in their order. `offsets` (-1: unknown) are hints that are checked.

        Raises:
            StoreCorruptError: a key is not in this version of the table.
        """
        wanted = [*columns] if "key" in columns else ["key", *columns]
        guess = self._take(offsets, wanted) if offsets is not None and len(keys) else None
        if guess is None or not np.array_equal(guess["key"].to_numpy(), keys):
            guess = self._by_key(keys, wanted)
        return guess.select([*columns])

    def key_vh(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys and vector hashes (int64) of all rows; place i is row offset i."""
        table = self._read(["key", "vh"], "read the keys")
        return table["key"].to_numpy(), table["vh"].to_numpy()

    def digest(self) -> str:
        """What the entry of this version records as its digest, computed from the rows."""
        return digest_of(*self.key_vh())

    def vectors(self, offsets: np.ndarray | None = None) -> np.ndarray:
        """Vectors, float32 (n, dim), of the rows at `offsets`, or of all in scan order."""
        if offsets is None:
            return to_numpy(self._read([VECTOR], "read the vectors")[VECTOR])
        return to_numpy(self.take(offsets, columns=[VECTOR])[VECTOR])

    def take(self, offsets: np.ndarray, *, columns: Sequence[str]) -> pa.Table:
        """The rows at these offsets, in their order."""
        with engine_faults(f"read rows of table {self.name}"):
            return self.dataset.take(np.asarray(offsets, np.int64).tolist(), columns=[*columns])

    def batches(self, columns: Sequence[str] | None = None, *, size: int = 8_192) -> Iterator[pa.RecordBatch]:
        """All rows in scan order, at most `size` at a time; every column unless some are named."""
        names = [*columns] if columns else None
        return batches_of(self.dataset, columns=names, doing=f"read table {self.name}", batch_size=size)

    def _sql(self, where: Filter | None, known: Known) -> str | None:
        return None if where is None else to_sql(where, self._columns, known=known)

    def _read(self, columns: list[str], doing: str, **options: Any) -> pa.Table:
        with engine_faults(f"{doing} of table {self.name}"):
            return self.dataset.scanner(columns=columns, scan_in_order=True, **options).to_table()

    def _bm25(self, query: str, *, limit: int, where: str | None) -> tuple[np.ndarray, np.ndarray]:
        from lance.query import MatchQuery

        with engine_faults(f"search the text of table {self.name}"):
            found = self.dataset.scanner(
                columns=["key", "_score"],
                full_text_query=MatchQuery(query, CONTENT),
                limit=limit,
                filter=where,
                prefilter=where is not None,
            ).to_table()
        return found["key"].to_numpy(), found["_score"].to_numpy()

    def _take(self, offsets: np.ndarray, columns: list[str]) -> pa.Table | None:
        if int(offsets.min()) < 0 or int(offsets.max()) >= self.rows:
            return None
        return self.take(offsets, columns=columns)

    def _by_key(self, keys: np.ndarray, columns: list[str]) -> pa.Table:
        listing = ",".join(str(int(key)) for key in keys) or "-1"
        table = self._read(columns, "read rows", filter=f"key IN ({listing})")
        place = {key: row for row, key in reversed(list(enumerate(table["key"].to_pylist())))}
        try:
            return table.take(np.array([place[int(key)] for key in keys], np.int64))
        except KeyError as error:
            raise StoreCorruptError(
                f"table {self.name} has no row {error.args[0]} at version {self.version}",
                hint="delete the store's indexes folder; it is rebuilt",
            ) from error
