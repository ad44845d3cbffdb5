"""Parquet files: one document per row."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from moe_retrieval.corpus.sources import short
from moe_retrieval.corpus.table_formats import record_item
from moe_retrieval.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.corpus.sources import Limits, SourceFile
    from moe_retrieval.types import Document, Rejected

_ROWS = 64  # per batch: rows of the largest allowed size still fit into memory together
_GROUP_BYTES = 2_000_000_000  # of one column of one row group, unpacked


def read_parquet(file: SourceFile, limits: Limits) -> Iterator[Document | Rejected]:
    """One document per row, some rows in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Texts are read as dictionaries: a value that repeats a million times is held once.
        texts = _text_columns(pq.ParquetFile(file.stream).schema_arrow)
        table = pq.ParquetFile(file.stream, read_dictionary=texts)
        _check_groups(table.metadata)
        number = 0
        for batch in table.iter_batches(batch_size=_ROWS):
            for row in range(batch.num_rows):
                number += 1
                yield record_item(file, f"row {number}", number, partial(_row, batch, row, limits))
    except (pa.ArrowException, OSError, KeyError, OverflowError, ValueError) as error:
        raise RejectedError(f"not a readable Parquet file ({short(error)})") from error


def _text_columns(schema: Any) -> list[str]:
    import pyarrow as pa

    return [field.name for field in schema if pa.types.is_string(field.type)]


def _check_groups(metadata: Any) -> None:
    for group in range(metadata.num_row_groups):
        columns = metadata.row_group(group)
        for place in range(columns.num_columns):
            if columns.column(place).total_uncompressed_size > _GROUP_BYTES:
                raise RejectedError("a column of a row group is too large; write smaller row groups")


def _row(batch: Any, row: int, limits: Limits) -> dict[str, object]:
    try:
        values = {name: batch.column(place)[row].as_py() for place, name in enumerate(batch.schema.names)}
    except (ValueError, OverflowError) as error:  # text that is not UTF-8, a date after the year 9999
        raise RejectedError(short(error)) from error
    limits.check_record(sum(len(value) for value in values.values() if isinstance(value, str | bytes)))
    return values
