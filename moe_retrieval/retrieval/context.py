"""Hits in, cited text within a token budget out: drop near-duplicates, join what touches, pack, fence, cite.

Nothing here reads a clock or rolls a die: the same hits, query, generation and secret give the same bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from moe_retrieval.errors import BudgetError, UsageError
from moe_retrieval.retrieval.rendering import render
from moe_retrieval.types import Citation, Context, ContextFormat, Hit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NEAR_DUPLICATE = 0.8
"""Share of a text's five-word shingles that a better text must hold to make it a duplicate."""


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

    def cited(self, number: int) -> Citation:
        return Citation(
            number=number,
            domain=self.domain,
            doc_id=self.doc_id,
            title=self.title,
            source=self.source,
            section=self.section,
            page=self.page,
            start=self.start,
            end=self.end,
            text=self.text,
        )


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a context is made with: how tokens are counted, and what its fence is derived from."""

    count: Callable[[str], int]
    secret: bytes
    generation: int


def build_context(
    hits: Sequence[Hit],
    *,
    query: str,
    assembly: Assembly,
    budget: int = 1500,
    form: ContextFormat = ContextFormat.MARKDOWN,
) -> Context:
    """As many whole spans as fit `budget` tokens of rendered text, fences and headers included, best first.

    A hit that does not fit is passed over for a later one that does. Control, bidi, tag and zero-width
    characters are left out of the rendered text; a citation's own `text` is the exact slice of its source.

    Raises:
        BudgetError: not even one hit fits.
    """
    if budget < 1:
        raise UsageError(f"the budget is {budget} tokens", hint="give at least 1")
    made = partial(_rendered, query=query, assembly=assembly, budget=budget, form=form)
    chosen: list[Hit] = []
    best = made([])
    for hit in without_duplicates(hits):
        tried = made([*chosen, hit])
        if tried.tokens <= budget:
            chosen.append(hit)
            best = tried
    if best.tokens > budget or (hits and not chosen):
        raise _too_small(min((made([hit]).tokens for hit in hits), default=best.tokens), budget)
    return best


def without_duplicates(hits: Sequence[Hit]) -> list[Hit]:
    """Hits whose text no better hit already holds, in their order; those that touch a better one stay."""
    kept: list[tuple[Hit, frozenset[tuple[str, ...]]]] = []
    for hit in hits:
        shingles = _shingles(hit.text)
        if not any(_holds(better, shingles) for before, better in kept if not _touch(before, hit)):
            kept.append((hit, shingles))
    return [hit for hit, _own in kept]


def joined(hits: Sequence[Hit]) -> list[Span]:
    """Spans of the hits, in the order of their best hit; chunks of one section that touch become one."""
    spans: list[Span] = []
    for hit in hits:
        span = _span(hit)
        touching = [other for other in spans if _joins(other, span)]
        place = spans.index(touching[0]) if touching else len(spans)
        for other in touching:
            span = _merge(other, span)
        spans = [*spans[:place], span, *(other for other in spans[place:] if other not in touching)]
    return spans


def _rendered(
    hits: Sequence[Hit], *, query: str, assembly: Assembly, budget: int, form: ContextFormat
) -> Context:
    citations = tuple(span.cited(number) for number, span in enumerate(joined(hits), start=1))
    return render(
        citations,
        query=query,
        secret=assembly.secret,
        generation=assembly.generation,
        budget=budget,
        count=assembly.count,
        form=form,
    )


def _too_small(needed: int, budget: int) -> BudgetError:
    return BudgetError(
        f"a budget of {budget} tokens holds no hit: the smallest needs {needed}",
        hint=f"give --budget {needed} or more",
    )


def _span(hit: Hit) -> Span:
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


def _touch(one: Hit, other: Hit) -> bool:
    """Whether two chunks of one document overlap or meet: joining them, not dropping one, is right."""
    return _joins(_span(one), _span(other))


def _joins(one: Span, other: Span) -> bool:
    """Whether two spans of one document overlap, or meet inside one section and page."""
    if (one.domain, one.source, one.doc_id) != (other.domain, other.source, other.doc_id):
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


def _shingles(text: str, *, size: int = 5) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower()) or [text]
    return frozenset(tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1)))


def _holds(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> bool:
    """Containment, not resemblance (Broder, 1997): a long text is no duplicate of its part."""
    return len(one & other) >= NEAR_DUPLICATE * len(other)
