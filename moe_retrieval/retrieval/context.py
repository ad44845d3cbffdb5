"""Hits in, cited text within a token budget out: drop near-duplicates, keep quotas, join, order, fence, cite.

Nothing here reads a clock or rolls a die: the same hits, query, generation and secret give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from moe_retrieval.contexts import Context, ContextFormat, ContextOrder
from moe_retrieval.errors import BudgetError, UsageError
from moe_retrieval.retrieval.citations.fencing import fence_of
from moe_retrieval.retrieval.citations.packing import packed
from moe_retrieval.retrieval.citations.rendering import render
from moe_retrieval.retrieval.citations.selecting import Quotas
from moe_retrieval.retrieval.citations.spans import arranged, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.types import Hit


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """What a context is to be like.

    `budget`: the most tokens of the rendered text. `tokenizer`: what counts them (`token_counts`); empty: the
    encoder's. `per_document`, `per_domain`: the most chunks of one document, of one domain; None: any number.

    Raises:
        UsageError: a number is below one.
    """

    budget: int = 1500
    form: ContextFormat = ContextFormat.MARKDOWN
    order: ContextOrder = ContextOrder.RELEVANCE
    tokenizer: str = ""
    per_document: int | None = None
    per_domain: int | None = None

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise UsageError(f"the budget is {self.budget} tokens", hint="give at least 1")
        for what, most in (("document", self.per_document), ("domain", self.per_domain)):
            if most is not None and most < 1:
                raise UsageError(f"at most {most} chunks per {what} leave nothing", hint="give at least 1")


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a context is made with: how tokens are counted, what its fence is derived from, and the table and
    version that each domain was read from.
    """

    count: Callable[[str], int]
    secret: bytes
    generation: int
    tables: Mapping[str, tuple[str, int]]

    @classmethod
    def of(cls, generation: Generation, *, secret: bytes, count: Callable[[str], int]) -> Assembly:
        """For an answer from this generation of a store with this secret."""
        tables = {name: (entry.table, entry.version) for name, entry in generation.domains.items()}
        return cls(count, secret=secret, generation=generation.number, tables=tables)


_DEFAULT = ContextOptions()


def build_context(
    hits: Sequence[Hit], *, query: str, assembly: Assembly, options: ContextOptions = _DEFAULT
) -> Context:
    """As many whole spans as fit the budget of rendered text, fences and headers included, best first.

    A hit that does not fit is passed over for a later one that does, and so is one whose text is shown
    already. Control, bidi, tag and zero-width characters are left out of the rendered text, and what looks
    like its frame is spaced out; a citation's own `text` is the exact slice of its source.

    Raises:
        BudgetError: not even one hit fits.
    """
    made = partial(
        _rendered, query=query, fence=_fence(hits, query, assembly), assembly=assembly, options=options
    )
    chosen, best = packed(hits, made=made, budget=options.budget, quotas=_quotas(options))
    if best.tokens > options.budget or (hits and not chosen):
        raise _too_small(min((made([hit]).tokens for hit in hits), default=best.tokens), options.budget)
    return best


def _fence(hits: Sequence[Hit], query: str, assembly: Assembly) -> str:
    """One for all that may be shown, so that what is chosen does not change the tokens it takes."""
    return fence_of(joined(hits), query=query, secret=assembly.secret, generation=assembly.generation)


def _quotas(options: ContextOptions) -> Quotas:
    return Quotas(per_document=options.per_document, per_domain=options.per_domain)


def _rendered(
    hits: Sequence[Hit], *, query: str, fence: str, assembly: Assembly, options: ContextOptions
) -> Context:
    citations = []
    for number, span in enumerate(arranged(joined(hits), options.order), start=1):
        table, version = assembly.tables[span.domain]
        citations.append(span.cited(number, table=table, version=version))
    return render(
        citations,
        query=query,
        fence=fence,
        generation=assembly.generation,
        budget=options.budget,
        count=assembly.count,
        form=options.form,
    )


def _too_small(needed: int, budget: int) -> BudgetError:
    tokens = "1 token" if budget == 1 else f"{budget} tokens"
    return BudgetError(
        f"a budget of {tokens} holds no hit: the smallest needs {needed}",
        hint=f"give --budget {needed} or more",
    )
