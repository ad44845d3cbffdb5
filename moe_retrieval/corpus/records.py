"""One record, a mapping of fields, to a document: JSON objects and table rows alike."""

from __future__ import annotations

import json
import math
import re
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING

from moe_retrieval.corpus.assembly import one_line
from moe_retrieval.corpus.cleaning import clean
from moe_retrieval.errors import RejectedError
from moe_retrieval.hashing import hash63
from moe_retrieval.types import Document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moe_retrieval.types import MetaValue

ID_FIELDS = ("_id", "id", "doc_id", "docid", "document_id", "pmid", "pmcid", "doi")
TEXT_FIELDS = ("text", "abstract", "body", "content", "contents")
TITLE_FIELDS = ("title", "name", "headline")
NESTED_FIELDS = (
    "metadata",
    "meta",
)  # an object of further fields, as BEIR and exports of vector stores have it

MOST_FIELDS = 100
LONGEST_KEY = 64
_LARGEST_INT = 2**63 - 1
_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]+)?")


def record_document(record: Mapping[str, object], *, source: str, fallback_id: str | None) -> Document:
    """The document of a record: its id, title and text by the usual names of fields, all else as metadata.

    Without an id it is named by `fallback_id`; where that is None too, by a hash of its title and text.

    Raises:
        RejectedError: there is neither a text nor a title.
    """
    names = {str(name).strip().lower(): name for name in reversed(list(record))}
    text_field, text = _first(record, names, TEXT_FIELDS)
    title_field, title = _first(record, names, TITLE_FIELDS)
    id_field, doc_id = _first(record, names, ID_FIELDS)
    if not text and not title:
        raise RejectedError(f"no text: none of the fields {', '.join(TEXT_FIELDS + TITLE_FIELDS)} holds any")
    rest = {name: value for name, value in record.items() if name not in {text_field, title_field, id_field}}
    title = one_line(title)
    text = clean(text) or title
    return Document(
        clean(doc_id).strip() or fallback_id or _content_id(title, text),
        text,
        source,
        title,
        metadata=metadata_of(_flat(rest)),
    )


def _content_id(title: str, text: str) -> str:
    said = f"{title}\0{text}"  # neither holds a null character
    return f"{hash63(said.encode()):016x}"


def metadata_of(fields: Mapping[str, object]) -> dict[str, MetaValue]:
    """Fields as values a store can filter by: at most 100 of them; empty ones are left out."""
    found: dict[str, MetaValue] = {}
    for name, value in fields.items():
        key = one_line(str(name))[:LONGEST_KEY]
        plain = plain_value(value)
        if key and key not in found and plain is not None and plain != "" and len(found) < MOST_FIELDS:
            found[key] = plain
    return found


def typed(text: str) -> str | int | float | bool:
    """What a cell of a table says: a plain number becomes one; `007`, `1e5` and `1,000` stay as they are."""
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return clean(text)


def plain_value(value: object) -> MetaValue:
    """A value as metadata holds it: text, number, bool, None or a list of texts; the rest as JSON text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST_INT else str(Decimal(value))
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(float(value)) else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return _list_value(value)
    return None if isinstance(value, bytes) else _as_json(value)


def _list_value(values: Sequence[object]) -> MetaValue:
    if all(isinstance(value, str | int | float) for value in values):
        texts = [clean(str(value)).strip() for value in values]
        return [text for text in texts if text] or None
    return _as_json(values)


def _as_json(value: object) -> str:
    return clean(json.dumps(value, ensure_ascii=False, sort_keys=True, default=str))


def _first(
    record: Mapping[str, object], names: Mapping[str, str], wanted: Sequence[str]
) -> tuple[str | None, str]:
    """Name and text of the first wanted field that holds any."""
    for field in wanted:
        value = record.get(names[field]) if field in names else None
        if isinstance(value, str | int) and not isinstance(value, bool) and (text := _text(value)).strip():
            return names[field], text
    return None, ""


def _text(value: str | int) -> str:
    return value if isinstance(value, str) else str(Decimal(value))


def _flat(fields: Mapping[str, object]) -> dict[str, object]:
    """Fields of a nested metadata object beside the others; a field of the record itself goes first."""
    found = {name: value for name, value in fields.items() if name not in NESTED_FIELDS}
    for name in NESTED_FIELDS:
        value = fields.get(name)
        if isinstance(value, dict):
            found = {**{str(key): item for key, item in value.items()}, **found}
        elif value is not None:
            found[name] = value
    return found
