"""Queries from a file of JSON lines, as BEIR has them: `{"_id": "q1", "text": "..."}`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

_LINE = 'one {"_id": "q1", "text": "..."} per line'
_STDIN = Path("-")


def read_queries(path: Path | None, *, stdin: BinaryIO | None = None) -> dict[str, str]:
    """The queries of a file, or of `stdin` where the path is `-` or None; see `parse_queries`.

    Raises:
        UsageError: the file cannot be read, or a line is no query; the message names the line.
    """
    if path is not None and path != _STDIN:
        return parse_queries(_lines(path.read_bytes, name=str(path)), name=str(path))
    if stdin is None:
        raise UsageError("'-' reads standard input, and there is none", hint="give a file of JSON lines")
    return parse_queries(_lines(stdin.read, name="stdin"), name="stdin")


def parse_queries(lines: Iterable[str], *, name: str) -> dict[str, str]:
    """Texts by id, in the lines' order; a query without `_id` or `id` is named by its line number.

    `name` says in messages where the lines come from.

    Raises:
        UsageError: a line is no query, or there is none; the message names the line.
    """
    queries: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        record = line.removeprefix("\ufeff") if number == 1 else line  # a byte order mark
        if record.strip():
            place = f"{name}, line {number}"
            query_id, text = _query(record, place=place, number=number)
            if query_id in queries:
                raise UsageError(f"{place}: query id {query_id!r} stands twice", hint="make ids unique")
            queries[query_id] = text
    if not queries:
        raise UsageError(f"{name} holds no queries", hint=_LINE)
    return queries


def _lines(read: Callable[[], bytes], *, name: str) -> list[str]:
    """The text cut at line ends only: a string may hold U+2028, at which `splitlines` would cut it."""
    try:
        text = read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        hint = "give a file of JSON lines in UTF-8"
        raise UsageError(f"{name} cannot be read: {error}", hint=hint) from error
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _query(line: str, *, place: str, number: int) -> tuple[str, str]:
    try:
        record = json.loads(line)
        query_id, text = _fields(record, number=number)
        (query_id + text).encode()
    except RecursionError as error:
        raise UsageError(f"{place} is nested too deeply", hint=_LINE) from error
    except UnicodeEncodeError as error:
        hint = "write it in UTF-8, or as two \\u escapes"
        raise UsageError(f"{place} holds half a character (a lone surrogate)", hint=hint) from error
    except ValueError as error:
        raise UsageError(f"{place} is no JSON: {error}", hint=_LINE) from error
    if not text.strip():
        raise UsageError(f"{place} has no text", hint=_LINE)
    return query_id, text


def _fields(record: object, *, number: int) -> tuple[str, str]:
    """Id and text of a record; no text where it has none."""
    if not isinstance(record, dict) or not isinstance(text := record.get("text"), str):
        return "", ""
    names = (record.get("_id"), record.get("id"), number)
    return str(next(name for name in names if name is not None)), text
