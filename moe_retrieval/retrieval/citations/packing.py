"""Pack hits into a token budget, best first: few texts are counted as a whole, none is over the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_retrieval.retrieval.citations.selecting import Shown
from moe_retrieval.retrieval.citations.spans import touch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_retrieval.contexts import Context
    from moe_retrieval.retrieval.citations.selecting import Quotas
    from moe_retrieval.types import Hit

    Made = Callable[[Sequence[Hit]], Context]

_DOUBT = 8
"""Tokens by which a sum of parts may be off where one part follows another."""


def packed(hits: Sequence[Hit], *, made: Made, budget: int, quotas: Quotas) -> tuple[list[Hit], Context]:
    """The hits that go into a context, and that context; over the budget only if it holds no hit at all.

    Tokens of a text are nearly the sum of those of its parts. The sum decides where it is far from the
    budget; where it is near, the whole is counted, and the sum goes on from there.
    """
    empty = made([]).tokens
    shown = Shown()
    chosen: list[Hit] = []
    total, unsure = empty, 0  # tokens of what is chosen; how many of them were only added up
    for hit in hits:
        if not quotas.allow(hit) or shown.holds(hit):
            continue
        more = made([hit]).tokens - empty
        doubt = _DOUBT + (unsure + more) // 50
        joins = any(touch(one, hit) for one in chosen)  # then it adds less than it has alone
        if total + more - doubt > budget and not joins:
            continue
        fits = total + more + doubt <= budget and not joins
        if not fits:
            counted = made([*chosen, hit]).tokens
            fits, total, unsure = counted <= budget, counted - more, 0
        if fits:
            chosen.append(hit)
            total, unsure = total + more, unsure + more
            shown.add(hit)
            quotas.add(hit)
    return _checked(chosen, made=made, budget=budget)


def _checked(chosen: list[Hit], *, made: Made, budget: int) -> tuple[list[Hit], Context]:
    """The context of the chosen hits, of fewer if the sum promised too much."""
    context = made(chosen)
    while chosen and context.tokens > budget:
        chosen = chosen[:-1]
        context = made(chosen)
    return chosen, context
