"""Files of records: JSON, JSON lines, CSV, TSV."""

from __future__ import annotations

import csv
import io
import json
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from moe_retrieval.corpus.cleaning import decode, marked, mended
from moe_retrieval.corpus.records import ID_FIELDS, TEXT_FIELDS, TITLE_FIELDS, record_document, typed
from moe_retrieval.corpus.sources import short
from moe_retrieval.errors import RejectedError
from moe_retrieval.types import Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from moe_retrieval.corpus.sources import Limits, SourceFile
    from moe_retrieval.types import Document

    Items = Iterator[Document | Rejected]

_HEAD = 8_192
_VERBATIM = frozenset({*TEXT_FIELDS, *TITLE_FIELDS, *ID_FIELDS})


def read_json(file: SourceFile, limits: Limits) -> Items:
    """One object is one document, named by its id or else by the file; a list holds one object each."""
    limits.check_file(file.size)
    parsed = _parsed(decode(file.stream.read(limits.file_bytes + 1)), what="the file")
    records = _records(parsed)
    if records is None:
        yield record_document(_object(parsed), source=file.source, fallback_id=file.name)
        return
    for number, record in enumerate(records, start=1):
        yield record_item(file, f"record {number}", number, partial(_object, record))


def read_jsonl(file: SourceFile, limits: Limits) -> Items:
    """One JSON object per line, one line in memory at a time; a broken line is rejected, the others go on."""
    with _text_stream(file) as stream:
        for number, line in enumerate(_lines(stream, limits), start=1):
            if line is None:
                yield Rejected(file.source, f"line {number}: longer than {limits.record_bytes:,} characters")
            elif line.strip():
                yield record_item(file, f"line {number}", number, partial(_line_object, line))


def read_delimited(file: SourceFile, limits: Limits) -> Items:
    """CSV, or TSV by the file's extension: a header row, then one document per row."""
    if csv.field_size_limit() < limits.record_bytes:
        csv.field_size_limit(limits.record_bytes)  # one for the whole process: it is only ever raised
    delimiter = "\t" if file.name.lower().endswith(".tsv") else ","
    with _text_stream(file) as stream:
        rows = csv.reader(_bounded(stream, limits), delimiter=delimiter)
        header = _header(rows)
        for number in count(1):
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield Rejected(file.source, f"line {rows.line_num}: {error}")
                continue
            if row is None:
                return
            if any(cell.strip() for cell in row):
                yield record_item(file, f"line {rows.line_num}", number, partial(_cells, header, row))


def record_item(
    file: SourceFile, place: str, number: int, fields: Callable[[], Mapping[str, object]]
) -> Document | Rejected:
    """The document of a record, or why it has none; the file goes on either way."""
    fallback_id = f"row-{number}" if file.numbered else None
    try:
        return record_document(fields(), source=file.source, fallback_id=fallback_id)
    except RejectedError as error:
        return Rejected(file.source, f"{place}: {error.message}")
    except RecursionError:
        return Rejected(file.source, f"{place}: nested too deeply")


# --- JSON -------------------------------------------------------------------------------------------------


def _parsed(text: str, *, what: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise RejectedError(f"{what} is nested too deeply") from error
    except ValueError as error:
        raise RejectedError(f"{what} is not JSON ({short(error)})") from error


def _no_number(_: str) -> None:
    """NaN and Infinity, which JSON does not have, say as much as null."""


def _line_object(line: str) -> dict[str, Any]:
    return _object(_parsed(mended(line), what="it"))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RejectedError("not a JSON object")
    return value


def _records(value: Any) -> list[Any] | None:
    """The list of records: the file's value, or the only list of objects of an object without text."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or any(str(name).lower() in TEXT_FIELDS + TITLE_FIELDS for name in value):
        return None
    lists = [part for part in value.values() if isinstance(part, list) and part and isinstance(part[0], dict)]
    return lists[0] if len(lists) == 1 else None


# --- lines and rows ---------------------------------------------------------------------------------------


@contextmanager
def _text_stream(file: SourceFile) -> Iterator[io.TextIOWrapper]:
    """The file as text; bytes that are not UTF-8 come as lone surrogates, for `mended`."""
    encoding = "utf-8-sig"
    if file.stream.seekable():
        head = file.stream.read(_HEAD)
        file.stream.seek(0)
        encoding = marked(head) or encoding
        if encoding == "utf-8-sig" and b"\0" in head:
            raise RejectedError("binary data, not text")
    strict = encoding != "utf-8-sig"
    errors = "replace" if strict else "surrogateescape"
    stream = io.TextIOWrapper(file.stream, encoding=encoding, errors=errors, newline="")
    try:
        yield stream
    finally:
        stream.detach()  # the stream under it is closed by who opened it, and stdin stays open


def _lines(stream: io.TextIOWrapper, limits: Limits) -> Iterator[str | None]:
    """Line by line; None for one that is too long, which is passed over without being held."""
    while line := stream.readline(limits.record_bytes):
        if line.endswith(("\n", "\r")) or len(line) < limits.record_bytes:
            yield line
            continue
        while (rest := stream.readline(limits.record_bytes)) and not rest.endswith(("\n", "\r")):
            pass
        yield None


def _bounded(stream: io.TextIOWrapper, limits: Limits) -> Iterator[str]:
    """Lines for the CSV parser; one that is too long becomes blank, and still counts as a line."""
    for line in _lines(stream, limits):
        yield "\n" if line is None else line


def _header(rows: Iterator[list[str]]) -> list[str]:
    try:
        header = [mended(name).strip() for name in next(rows, [])]
    except csv.Error as error:
        raise RejectedError(f"the header row cannot be read ({error})") from error
    if not {name.lower() for name in header} & set(TEXT_FIELDS + TITLE_FIELDS):
        raise RejectedError(f"the header row names none of {', '.join(TEXT_FIELDS + TITLE_FIELDS)}")
    return header


def _cells(header: list[str], row: list[str]) -> dict[str, object]:
    if len(row) > len(header):
        raise RejectedError(f"{len(row)} cells under a header of {len(header)}")
    named = ((name, mended(cell).strip()) for name, cell in zip(header, row, strict=False))
    return {name: _cell(name, cell) for name, cell in named if name and cell}


def _cell(name: str, cell: str) -> object:
    """Ids, titles and texts stay text, whatever they look like."""
    return cell if name.lower() in _VERBATIM else typed(cell)
