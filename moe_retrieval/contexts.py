"""What a context is: its forms and orders, its citations, its text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class ContextFormat(StrEnum):
    """Outer form of an assembled context."""

    MARKDOWN = "markdown"
    XML = "xml"
    JSON = "json"
    MESSAGES = "messages"


class ContextOrder(StrEnum):
    """How the spans of a context follow each other: the best first; document by document, each in reading
    order; or the best at both ends and the weakest in the middle, where long contexts are read least.
    """

    RELEVANCE = "relevance"
    DOCUMENT = "document"
    ENDS_FIRST = "ends-first"


@dataclass(frozen=True, slots=True)
class Citation:
    """A span of a source document: `document.text[start:end] == text`.

    `number` counts within one context. `key` names this text at this place of this document: 12 hex digits,
    the same in every answer. `table` and `version` are the table version it was read from.
    """

    number: int
    key: str
    domain: str
    doc_id: str
    title: str
    source: str
    section: str
    page: int | None
    start: int
    end: int
    text: str
    table: str
    version: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Context:
    """Rendered text for a language model, at most `budget` tokens, with its citations.

    As JSON it has five keys: text, tokens, budget, citations, generation.
    """

    text: str
    tokens: int
    budget: int
    citations: tuple[Citation, ...]
    generation: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
