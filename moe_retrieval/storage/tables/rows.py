"""The rows of a table: its columns, and the way from chunks and vectors to an Arrow batch.

Each metadata field gets a column per type it has been seen with (`n_year` numbers, `s_journal` strings,
`b_open` true or false, `l_mesh` lists of strings), so types never conflict; all are kept in `meta`, as JSON.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from moe_retrieval.errors import BadVectorError, RejectedError, StoreError
from moe_retrieval.hashing import chunk_id, document_key, hash63

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from moe_retrieval.types import Chunk, MetaValue

MAX_FIELDS = 100
"""Metadata columns of one table; further fields stay in `meta` and cannot be filtered by."""

FINGERPRINT = b"moeret.fingerprint"
AFTER = b"moeret.after"
VECTOR = "vector"
CONTENT = "content"
UNIT_TOLERANCE = 1e-3

_PRIMARY_KEY = {"lance-schema:unenforced-primary-key:position": "1"}
_BASE: tuple[tuple[str, pa.DataType], ...] = (
    ("key", pa.int64()),
    ("vh", pa.int64()),
    ("doc_key", pa.int64()),
    ("doc_hash", pa.int64()),
    ("doc_id", pa.string()),
    ("source", pa.string()),
    ("title", pa.string()),
    ("section", pa.string()),
    ("page", pa.int32()),
    ("ordinal", pa.int32()),
    ("parts", pa.int32()),
    ("start", pa.int64()),
    ("end", pa.int64()),
    ("lead", pa.int32()),
    (CONTENT, pa.string()),
    ("meta", pa.string()),
)
_TYPES = {"n_": pa.float64(), "s_": pa.string(), "b_": pa.bool_(), "l_": pa.list_(pa.string())}
_NOT_A_NAME = re.compile(r"[^a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One chunk to be stored: of a document with `parts` chunks whose content hash is `doc_hash`."""

    chunk: Chunk
    parts: int
    doc_hash: int
    metadata: Mapping[str, MetaValue]


def schema(dim: int, *, fingerprint: str = "", after: int = 0) -> pa.Schema:
    """Columns of an empty table of `dim`-wide vectors. In the schema's metadata travel the fingerprint and
    the number of the generation that was live when the table was made.

    `id` is declared as primary key here, in the schema: Lance forgets a key that was set later when a table
    is overwritten, and without one two writers can insert the same id twice without an error.
    """
    first = pa.field("id", pa.string(), nullable=False, metadata=_PRIMARY_KEY)
    rest = [pa.field(name, kind) for name, kind in _BASE]
    vector = pa.field(VECTOR, pa.list_(pa.float32(), dim))
    notes = {FINGERPRINT: fingerprint.encode(), AFTER: b"%d" % after}
    return pa.schema([first, *rest, vector], metadata=notes)


def field_name(name: str) -> str:
    """The spelling of a metadata field as a column: lower-case letters, digits and underscores."""
    return _NOT_A_NAME.sub("_", name.lower())[:64]


def metadata_columns(names: Iterable[str]) -> list[str]:
    """Those of a table's columns that hold metadata fields."""
    return [name for name in names if name[:2] in _TYPES and len(name) > 2]


def to_batch(rows: Sequence[Row], vectors: np.ndarray) -> pa.RecordBatch:
    """Rows and their vectors, float32 (n, dim), as one Arrow batch.

    Raises:
        BadVectorError: a vector is not finite or not of unit length; the message names the chunk.
        StoreError: two rows have the same id.
        RejectedError: a text holds a lone surrogate, which no file format can store.
    """
    names = [f"{row.chunk.doc_id}, chunk {row.chunk.ordinal}" for row in rows]
    array = _checked(names, vectors)
    try:
        columns = _base_columns(rows) | _metadata_arrays(rows)
    except UnicodeEncodeError as error:
        reason = f"a text cannot be stored as UTF-8: {error.reason}"
        raise RejectedError(reason, hint="re-encode the file") from error
    columns |= _vector_columns(array)
    known = schema(array.shape[1])
    fields = [
        known.field(name) if name in known.names else pa.field(name, _TYPES[name[:2]]) for name in columns
    ]
    return pa.record_batch(list(columns.values()), schema=pa.schema(fields))


def with_vectors(batch: pa.RecordBatch, vectors: np.ndarray) -> pa.RecordBatch:
    """Stored rows with other vectors, float32 (n, dim); all else stays.

    Raises:
        BadVectorError: a vector is not finite or not of unit length; the message names the chunk.
    """
    array = _checked(batch["id"].to_pylist(), vectors)
    fresh = _vector_columns(array)
    names = [name for name in batch.schema.names if name not in fresh]
    fields = [batch.schema.field(name) for name in names]
    fields += [pa.field("vh", pa.int64()), pa.field(VECTOR, pa.list_(pa.float32(), array.shape[1]))]
    return pa.record_batch([batch[name] for name in names] + list(fresh.values()), schema=pa.schema(fields))


def align(batch: pa.RecordBatch, columns: pa.Schema) -> pa.Table:
    """The batch with exactly these columns, in this order: what it lacks is null, what is too much goes.

    A column left out of an upsert would keep the value of the row it replaces.
    """
    arrays = [
        batch.column(part.name) if part.name in batch.schema.names else pa.nulls(batch.num_rows, part.type)
        for part in columns
    ]
    return pa.Table.from_arrays(arrays, schema=columns)


def to_numpy(vectors: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """A vector column as float32 (n, dim)."""
    dim = vectors.type.list_size
    flat = vectors.combine_chunks() if isinstance(vectors, pa.ChunkedArray) else vectors
    if isinstance(flat, pa.ChunkedArray):  # of no chunks at all
        return np.zeros((0, dim), np.float32)
    values = flat.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float32).reshape(-1, dim)


def _checked(names: Sequence[str], vectors: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(vectors, dtype="<f4")
    if array.ndim != 2 or len(array) != len(names) or (len(names) and array.shape[1] == 0):
        raise BadVectorError(
            f"{len(names)} chunks came with vectors of shape {array.shape}",
            hint="the encoder and the chunks disagree",
        )
    norms = np.linalg.norm(array.astype(np.float64), axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1.0) <= UNIT_TOLERANCE))  # written so that NaN is bad too
    if len(bad):
        place = int(bad[0])
        what = f"has length {norms[place]:.4g}" if math.isfinite(norms[place]) else "is not finite"
        raise BadVectorError(
            f"the vector of row {place} ({names[place]}) {what}", hint="check the model's weights"
        )
    return array


def _vector_columns(array: np.ndarray) -> dict[str, pa.Array]:
    hashes = pa.array([hash63(vector.tobytes()) for vector in array], pa.int64())
    return {
        "vh": hashes,
        VECTOR: pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1]),
    }


def _base_columns(rows: Sequence[Row]) -> dict[str, pa.Array]:
    chunks = [row.chunk for row in rows]
    doc_keys = [document_key(chunk.source, chunk.doc_id) for chunk in chunks]
    ids = [chunk_id(key, chunk.ordinal) for key, chunk in zip(doc_keys, chunks, strict=True)]
    _refuse_twins(ids, rows)
    values: dict[str, list[Any]] = {
        "id": ids,
        "key": [hash63(name.encode()) for name in ids],
        "doc_key": doc_keys,
        "doc_hash": [row.doc_hash for row in rows],
        "parts": [row.parts for row in rows],
        "lead": [len(chunk.lead) for chunk in chunks],
        CONTENT: [chunk.content for chunk in chunks],
        "meta": [json.dumps(dict(row.metadata), ensure_ascii=False, sort_keys=True) for row in rows],
    }
    types = {"id": pa.string(), **dict(_BASE)}
    del types["vh"]
    return {
        name: pa.array(values.get(name) or [getattr(chunk, name) for chunk in chunks], kind)
        for name, kind in types.items()
    }


def _refuse_twins(ids: Sequence[str], rows: Sequence[Row]) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for name, row in zip(ids, rows, strict=True):
        if name in seen:
            raise StoreError(
                f"two rows are chunk {row.chunk.ordinal} of {row.chunk.doc_id!r} in {row.chunk.source!r}",
                hint="give each document of a source its own id",
            )
        seen.add(name)


def _metadata_arrays(rows: Sequence[Row]) -> dict[str, pa.Array]:
    columns: dict[str, list[Any]] = {}
    for place, row in enumerate(rows):
        for name in sorted(row.metadata):
            column, value = _typed(name, row.metadata[name])
            if column:
                values = columns.setdefault(column, [None] * len(rows))
                values[place] = value if values[place] is None else values[place]
    return {name: pa.array(columns[name], _TYPES[name[:2]]) for name in sorted(columns)}


def _typed(name: str, value: MetaValue) -> tuple[str, Any]:
    """The column a value belongs to, and the value as held there; no name if it cannot be filtered by."""
    plain = field_name(name)
    if isinstance(value, bool):
        return f"b_{plain}", value
    if isinstance(value, str):
        return f"s_{plain}", value
    if isinstance(value, list):
        return f"l_{plain}", [str(part) for part in value]
    if isinstance(value, int | float) and abs(value) <= 1.7e308:  # not NaN, not infinite, not beyond a double
        return f"n_{plain}", float(value)
    return "", None
