"""Rows of a data set's files: Parquet, JSON lines, CSV; some rows in memory at a time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moe_retrieval.corpus.sources import short
from moe_retrieval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Row = dict[str, Any]

FORMATS = (".parquet", ".jsonl", ".ndjson", ".csv", ".tsv")
"""The best one first: types and texts come through Parquet as they were."""

COLUMNS = ("a", "b", "label")

_OPTIONAL = ("domain",)
_ROWS = 256  # per batch
_BLOCK = 16 << 20  # bytes of CSV at once; no row may be longer


def read_rows(path: Path, *, name: str) -> Iterator[Row]:
    """The rows of a file, with `a`, `b`, `label`, and `domain` where there is one; other columns stay unread.

    `name` says in messages which file it is.

    Raises:
        UsageError: the file cannot be read, or lacks a column.
    """
    import pyarrow as pa

    suffix = path.suffix.lower()
    reader = _READERS.get(suffix, _json_lines)
    try:
        yield from reader(path, name)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(
            f"{name} cannot be read: {short(error)}", hint="fetch or write the file anew"
        ) from error


def _parquet(path: Path, name: str) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        columns = _columns(file.schema_arrow.names, name)
        for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
            yield from batch.to_pylist()


def _delimited(path: Path, name: str) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import csv

    texts = dict.fromkeys((*COLUMNS, *_OPTIONAL), pa.string())
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=_BLOCK, use_threads=False),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=texts, strings_can_be_null=False),
    ) as reader:
        columns = _columns(reader.schema.names, name)
        for batch in reader:
            yield from batch.select(columns).to_pylist()


def _json_lines(path: Path, name: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                row = _object(line, place=f"{name}, line {number}")
                _columns(row, f"{name}, line {number},")
                yield row


def _object(line: str, *, place: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} is no JSON: {short(error)}", hint="one object per line") from error
    if not isinstance(row, dict):
        raise UsageError(f"{place} is no object", hint="one object per line")
    return row


def _columns(found: Iterable[str], name: str) -> list[str]:
    names = list(found)
    if missing := [column for column in COLUMNS if column not in names]:
        said = ", ".join(names[:12])
        raise UsageError(
            f"{name} has no {' and no '.join(missing)}",
            hint=f"needed are a, b, label; it has: {said or 'none'}",
        )
    return [*COLUMNS, *(column for column in _OPTIONAL if column in names)]


_READERS = {".parquet": _parquet, ".csv": _delimited, ".tsv": _delimited}
