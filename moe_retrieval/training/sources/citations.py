"""Articles with their references, as JSON lines: what pairs of cited papers are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import UsageError
from moe_retrieval.training.pairs.cocitations import CitationOptions, CitationPairs, PairKind, citation_pairs
from moe_retrieval.types import slug

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = [
    "Article",
    "CitationOptions",
    "CitationPairs",
    "PairKind",
    "Reference",
    "citation_pairs",
    "read_articles",
    "write_articles",
]

_LINE = 'one {"_id", "title", "abstract", "domain", "references": [{"_id", "title"}], "brackets"} per line'


@dataclass(frozen=True, slots=True)
class Reference:
    """A paper that an article cites; the abstract where it is known."""

    id: str
    title: str
    abstract: str = ""

    def to_dict(self) -> dict[str, str]:
        said = {"_id": self.id, "title": self.title}
        return said | {"abstract": self.abstract} if self.abstract else said


@dataclass(frozen=True, slots=True)
class Article:
    """A paper with what it cites; `brackets`: ids of references that it cites in one place, together.

    `held_out`: kept for judging, never for training. `pmid`: its PubMed id, by which others cite it as
    `pmid:<number>`. `date`: ISO 8601, or empty.
    """

    id: str
    title: str
    abstract: str
    domain: str
    references: tuple[Reference, ...]
    brackets: tuple[tuple[str, ...], ...] = ()
    date: str = ""
    held_out: bool = False
    pmid: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The record of `read_articles`' layout."""
        said: dict[str, Any] = {
            "_id": self.id,
            "pmid": self.pmid,
            "title": self.title,
            "abstract": self.abstract,
            "domain": self.domain,
            "references": [one.to_dict() for one in self.references],
            "brackets": [list(bracket) for bracket in self.brackets],
        }
        optional = {"date": self.date, "in_dev_queries": self.held_out}
        return said | {name: value for name, value in optional.items() if value}


def read_articles(path: Path) -> Iterator[Article]:
    """The articles of a citation file, in its order.

    Raises:
        UsageError: the file cannot be read, or a line is no article; the message names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _article(line, place=f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint=_LINE) from error


def write_articles(path: Path, articles: Iterable[Article]) -> None:
    """Write a citation file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.tmp")
    with fresh.open("wb") as stream:
        for article in articles:
            line = json.dumps(article.to_dict(), ensure_ascii=False) + "\n"
            stream.write(line.encode(errors="backslashreplace"))  # half a surrogate pair, as JSON escapes it
    fresh.replace(path)


def _article(line: str, *, place: str) -> Article:
    try:
        return _article_of(json.loads(line))
    except RecursionError as error:
        raise UsageError(f"{place} is nested too deeply", hint=_LINE) from error
    except json.JSONDecodeError as error:
        raise UsageError(f"{place} is no JSON: {error}", hint=_LINE) from error
    except ValueError as error:
        raise UsageError(f"{place} is no article: {error}", hint=_LINE) from error


def _article_of(record: object) -> Article:
    if not isinstance(record, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - told apart by the sentence, not by the type
    return Article(
        id=_name(record),
        title=_text(record, "title"),
        abstract=_text(record, "abstract"),
        domain=slug(_text(record, "domain")),
        references=tuple(_reference(one) for one in _list(record, "references")),
        brackets=tuple(_bracket(one) for one in _list(record, "brackets")),
        date=_text(record, "date"),
        held_out=bool(record.get("in_dev_queries")),
        pmid=_text(record, "pmid"),
    )


def _reference(one: object) -> Reference:
    if not isinstance(one, dict):
        raise ValueError("a reference is no object")  # noqa: TRY004
    return Reference(_name(one), _text(one, "title"), _text(one, "abstract"))


def _bracket(one: object) -> tuple[str, ...]:
    if not isinstance(one, list) or not all(isinstance(name, str) for name in one):
        raise ValueError("a bracket is no list of ids")
    return tuple(one)


def _name(record: dict[str, Any]) -> str:
    if not isinstance(name := record.get("_id"), str) or not name:
        raise ValueError("an _id is missing")
    return name


def _text(record: dict[str, Any], field: str) -> str:
    if not isinstance(value := record.get(field) or "", str):
        raise ValueError(f"its {field} is no text")  # noqa: TRY004
    return value


def _list(record: dict[str, Any], field: str) -> list[Any]:
    if not isinstance(value := record.get(field) or [], list):
        raise ValueError(f"its {field} are no list")  # noqa: TRY004
    return value
