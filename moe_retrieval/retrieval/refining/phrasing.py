"""One question in several phrasings: each is searched, and what they find is joined by rank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from moe_retrieval.retrieval.fusion import reciprocal_rank
from moe_retrieval.retrieval.refining.scaling import rescored
from moe_retrieval.retrieval.refining.stored import key_of

if TYPE_CHECKING:
    from moe_retrieval.types import Hit

Phrasings = Callable[[str], Sequence[str]]
"""Other phrasings of a question, by rule or by a language model."""

MOST = 16
"""Phrasings of one question that are searched, itself included; further ones are left out."""


def distinct(text: str, others: Sequence[str]) -> tuple[str, ...]:
    """The question and its other phrasings; the blank and the repeated are left out."""
    given = dict.fromkeys((text, *(other for other in others if other.strip())))
    return tuple(given)[:MOST]


def joined(lists: Sequence[Sequence[Hit]]) -> list[Hit]:
    """The hits of several phrasings as one list, best first, by reciprocal rank fusion (`reciprocal_rank`).

    A hit is as the first phrasing that found it shows it; its `why` gains its rank under each phrasing. One
    list comes back as it is.
    """
    if len(lists) == 1:
        return list(lists[0])
    placed = [[(hit.domain, key_of(hit)) for hit in hits] for hits in lists]
    found: dict[tuple[str, int], Hit] = {}
    ranks: dict[tuple[str, int], list[int | None]] = defaultdict(lambda: [None] * len(lists))
    for at, (places, hits) in enumerate(zip(placed, lists, strict=True)):
        for rank, (place, hit) in enumerate(zip(places, hits, strict=True), start=1):
            found.setdefault(place, hit)
            ranks[place][at] = rank
    scores = reciprocal_rank(placed)
    best = sorted(scores, key=lambda place: (-scores[place], place))
    return [_shown(found[place], ranks[place], score=scores[place]) for place in best]


def _shown(hit: Hit, ranks: Sequence[int | None], *, score: float) -> Hit:
    joint = rescored(hit, score)
    return replace(joint, why=replace(joint.why, phrasing_ranks=tuple(ranks)))
