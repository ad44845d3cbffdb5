"""Which references an article cites in one place: runs of `<xref>` in one bracket or superscript (JATS)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.corpus.xml_elements import INLINE, inline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from xml.etree.ElementTree import Element

LONGEST_RANGE = 60  # references that a range such as 3-7 may stand for

_DASHES = "\\-\u2010\u2011\u2012\u2013\u2014\u2212"
_PUNCTUATION = re.compile(rf"[\s,;()\[\]{_DASHES}]*")
_WORDS = re.compile(r"[\s,;]*(?:and|&|or|see|see also|also|as well as|e\.g\.|cf\.)[\s,;]*", re.IGNORECASE)
_RANGE = re.compile(rf"[\s()\[\]]*[{_DASHES}][\s()\[\]]*")
_NUMBER = re.compile(r"\W*(\d{1,3})\W*")
_NUMBERS = re.compile(rf"\W*(\d{{1,3}})\s*[{_DASHES}]\s*(\d{{1,3}})\W*")
_BLOCK_ENDS = None  # no run of citations goes on beyond


@dataclass(frozen=True, slots=True)
class _Cite:
    places: tuple[int, ...]  # in the list of references
    label: str


def cited_together(body: Element, places: Mapping[str, int]) -> Iterator[tuple[int, ...]]:
    """Groups of places in the list of references that a text cites in one bracket, in reading order; a place
    that is cited alone is a group of one.

    `places`: of each `<ref>`, by its XML id. Two citations stand together if there is nothing but punctuation
    between them, or, inside a bracket or a superscript, a joining word. A dash between two numbers stands for
    all between them. A run ends with its paragraph.
    """
    group: list[int] = []
    last: _Cite | None = None
    between, depth = "", 0
    for part in (*_flow(body, places), _BLOCK_ENDS):
        if isinstance(part, str):
            between += part
            depth = _depth(depth, part)
            continue
        if part is not None and last is not None and _joins(between, inside=depth > 0):
            group += (*_range(last, part, between), *part.places)
        else:
            if group:
                yield tuple(dict.fromkeys(group))
            group = [] if part is None else list(part.places)
        last, between = part, ""
        depth = 0 if part is None else depth


def _depth(depth: int, text: str) -> int:
    """Open brackets after a text."""
    return max(depth + sum(map(text.count, "([")) - sum(map(text.count, ")]")), 0)


def _joins(between: str, *, inside: bool) -> bool:
    return bool(_PUNCTUATION.fullmatch(between) or (inside and _WORDS.fullmatch(between)))


def _range(one: _Cite, other: _Cite, between: str) -> range:
    """The places strictly between two citations that a dash joins."""
    numbered = _NUMBER.fullmatch(one.label) and _NUMBER.fullmatch(other.label)
    if not numbered or not _RANGE.fullmatch(between):
        return range(0)
    span = range(one.places[-1] + 1, other.places[0])
    return span if len(span) <= LONGEST_RANGE else range(0)


def _flow(element: Element, places: Mapping[str, int]) -> Iterator[str | _Cite | None]:
    """Text and citations in reading order; None where a block begins or ends, a superscript as a bracket."""
    if element.tag == "xref" and (cite := _cite(element, places)):
        yield cite
        return
    superscript, block = element.tag == "sup", element.tag not in INLINE
    if block:
        yield _BLOCK_ENDS
    yield "[" * superscript + (element.text or "")
    for child in element:
        yield from _flow(child, places)
        yield child.tail or ""
    yield "]" * superscript
    if block:
        yield _BLOCK_ENDS


def _cite(xref: Element, places: Mapping[str, int]) -> _Cite | None:
    """What a reference to the list of references stands for; `3-7` in a single one, for five of the list."""
    found = tuple(places[name] for name in xref.get("rid", "").split() if name in places)
    if not found:
        return None
    label = inline(xref)
    if len(found) == 1 and (numbers := _NUMBERS.fullmatch(label)):
        more = int(numbers[2]) - int(numbers[1])
        last = max(places.values())
        if 0 < more <= LONGEST_RANGE and found[0] + more <= last:
            found = tuple(range(found[0], found[0] + more + 1))
    return _Cite(found, label)
