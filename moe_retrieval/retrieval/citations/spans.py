"""Stretches of source documents: chunks that touch become one, and each has a key that never changes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

from moe_retrieval.contexts import Citation, ContextOrder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_retrieval.types import Hit


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of a source document: one chunk, or several that touch."""

    domain: str
    doc_id: str
    title: str
    source: str
    section: str
    page: int | None
    start: int
    end: int
    text: str

    @property
    def document(self) -> tuple[str, str, str]:
        return (self.domain, self.source, self.doc_id)

    def cited(self, number: int, *, table: str, version: int) -> Citation:
        return Citation(
            number=number,
            key=citation_key(*self.document, self.start, self.end, self.text),
            domain=self.domain,
            doc_id=self.doc_id,
            title=self.title,
            source=self.source,
            section=self.section,
            page=self.page,
            start=self.start,
            end=self.end,
            text=self.text,
            table=table,
            version=version,
        )


def citation_key(domain: str, source: str, doc_id: str, start: int, end: int, text: str) -> str:
    """Twelve hex digits for this text at this place of this document; the same wherever it is cited.

    48 bits: among a million different spans, two share a key with a chance of 1 in 560.
    """
    said = json.dumps([domain, source, doc_id, start, end, text])
    return hashlib.blake2b(said.encode(), digest_size=6).hexdigest()


def joined(hits: Sequence[Hit]) -> list[Span]:
    """Spans of the hits, in the order of their best hit; chunks of one section that touch become one."""
    found: dict[tuple[str, str, str], list[tuple[int, Span]]] = {}
    for place, hit in enumerate(hits):
        span, best, apart = span_of(hit), place, []
        for before, other in found.get(span.document, ()):
            if joins(other, span):
                span, best = _merge(other, span), min(best, before)
            else:
                apart.append((before, other))
        found[span.document] = [*apart, (best, span)]
    return [span for _place, span in sorted(chain(*found.values()), key=itemgetter(0))]


def arranged(spans: Sequence[Span], order: ContextOrder) -> list[Span]:
    """Spans, given best first, in the order they are to be shown.

    Ends-first: the best, third, fifth, ... from the beginning, the second, fourth, ... from the end. Models
    use what stands at the ends of a long context better than its middle (Liu et al., TACL 2024).
    """
    if order == ContextOrder.DOCUMENT:
        best = {
            document: at for at, document in reversed([(at, one.document) for at, one in enumerate(spans)])
        }
        return sorted(spans, key=lambda span: (best[span.document], span.start, span.end))
    if order == ContextOrder.ENDS_FIRST:
        return [*spans[0::2], *reversed(spans[1::2])]
    return [*spans]


def touch(one: Hit, other: Hit) -> bool:
    """Whether two chunks of one document overlap or meet: joining them, not dropping one, is right."""
    return joins(span_of(one), span_of(other))


def span_of(hit: Hit) -> Span:
    return Span(
        domain=hit.domain,
        doc_id=hit.doc_id,
        title=hit.title,
        source=hit.source,
        section=hit.section,
        page=hit.page,
        start=hit.start,
        end=hit.end,
        text=hit.text,
    )


def joins(one: Span, other: Span) -> bool:
    """Whether two spans of one document overlap, or meet inside one section and page."""
    if one.document != other.document:
        return False
    gap = max(one.start, other.start) - min(one.end, other.end)
    return gap < 0 or (gap == 0 and (one.section, one.page) == (other.section, other.page))


def _merge(one: Span, other: Span) -> Span:
    """The union of two spans that touch."""
    first, second = sorted((one, other), key=lambda span: (span.start, -span.end))
    text = first.text + second.text[max(0, first.end - second.start) :]
    return Span(
        domain=first.domain,
        doc_id=first.doc_id,
        title=first.title,
        source=first.source,
        section=first.section,
        page=first.page,
        start=first.start,
        end=max(first.end, second.end),
        text=text,
    )
