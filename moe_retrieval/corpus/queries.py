"""Queries from a file of JSON lines, as BEIR has them: `{"_id": "q1", "text": "..."}`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from moe_retrieval.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_LINE = 'one {"_id": "q1", "text": "..."} per line'


def read_queries(path: Path) -> dict[str, str]:
    """Texts by id, in the file's order; a query without `_id` or `id` is named by its line number.

    Raises:
        UsageError: the file cannot be read, or a line is no query; the message names the line.
    """
    queries: dict[str, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            name, text = _query(line, place=place, number=number)
            if name in queries:
                raise UsageError(f"{place}: query id {name!r} stands twice", hint="make ids unique")
            queries[name] = text
    if not queries:
        raise UsageError(f"{path} holds no queries", hint=_LINE)
    return queries


def _lines(path: Path) -> list[str]:
    """The file cut at line feeds only: a string may hold U+2028, at which `splitlines` would cut it."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        hint = "give a file of JSON lines in UTF-8"
        raise UsageError(f"{path} cannot be read: {error}", hint=hint) from error


def _query(line: str, *, place: str, number: int) -> tuple[str, str]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{place} is no JSON: {error}", hint=_LINE) from error
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{place} has no text", hint=_LINE)
    names = (record.get("_id"), record.get("id"), number)
    return str(next(name for name in names if name is not None)), text
