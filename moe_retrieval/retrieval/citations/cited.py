"""Contexts as `moeret context --json` prints them, read back; nothing in such a file is trusted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moe_retrieval.contexts import Citation, Context
from moe_retrieval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

HINT = "give what moeret context --json has printed"

_CITATION: dict[str, type | tuple[type, ...]] = {
    "number": int, "key": str, "domain": str, "doc_id": str, "title": str, "source": str, "section": str,
    "page": (int, type(None)), "start": int, "end": int, "text": str, "table": str, "version": int,
}  # fmt: skip
_CONTEXT: dict[str, type | tuple[type, ...]] = {
    "text": str, "tokens": int, "budget": int, "citations": list, "generation": int
}  # fmt: skip


def read_contexts(text: str, *, name: str) -> list[Context]:
    """The contexts of a file called `name`: one JSON object, or several, each on a line.

    Raises:
        UsageError: it is no such file; the message says where.
    """
    try:
        records = [json.loads(text)]
    except (ValueError, RecursionError):
        records = _lines(text, name)
    if not records:
        raise UsageError(f"{name} is empty", hint=HINT)
    return [_context(record, place=f"{name}, object {at}") for at, record in enumerate(records, start=1)]


def _lines(text: str, name: str) -> list[Any]:
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{name}, line {number} is no JSON object", hint=HINT) from error
    return records


def _context(record: Any, *, place: str) -> Context:
    fields = _checked(record, _CONTEXT, place=place)
    citations = [
        Citation(**_checked(one, _CITATION, place=f"{place}, citation {at}"))
        for at, one in enumerate(fields.pop("citations"), start=1)
    ]
    return Context(**fields, citations=tuple(citations))


def _checked(record: Any, wanted: Mapping[str, type | tuple[type, ...]], *, place: str) -> dict[str, Any]:
    """The wanted fields of a record, each of its type."""
    if not isinstance(record, dict):
        raise UsageError(f"{place} is no JSON object", hint=HINT)
    for field, kind in wanted.items():
        if field not in record:
            raise UsageError(f"{place} has no {field!r}", hint=HINT)
        value = record[field]
        torn = isinstance(value, str) and not _is_whole(value)
        if not isinstance(value, kind) or isinstance(value, bool) or torn:
            raise UsageError(f"{place}: {field!r} is {value!r:.60}", hint=HINT)
    return {field: record[field] for field in wanted}


def _is_whole(text: str) -> bool:
    """Whether no character of a text is half a pair: what the store holds can be written as UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
