"""Hits that say different things: maximal marginal relevance over stored vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.retrieval.refining.scaling import rescored, unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moe_retrieval.types import Hit


def diversified(
    hits: Sequence[Hit], *, vectors: Sequence[np.ndarray], spaces: Sequence[str], weight: float, k: int
) -> list[Hit]:
    """The `k` hits of most marginal relevance, in the order they are chosen; their scores are that value.

    `weight` is that of relevance: 1 leaves the order as it is, 0 asks for difference alone. `vectors`: unit
    vectors, float32 (dim,), one a hit; `spaces`: which vectors compare. Cosines of two experts mean nothing,
    so hits of two spaces are as alike as their words are (`overlap`).

    Carbonell & Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
    Summaries", SIGIR 1998; relevance is scaled from the list's last (0) to its best (1).
    """
    relevance = unit([hit.score for hit in hits])
    likeness = _Likeness(hits, vectors, spaces)
    nearest = np.zeros(len(hits))  # how alike each is to the most alike of those chosen; never below 0
    left = np.ones(len(hits), bool)
    chosen: list[Hit] = []
    for _ in range(min(k, len(hits))):
        values = np.where(left, weight * relevance - (1 - weight) * nearest, -np.inf)
        best = int(values.argmax())  # the first of equals: the better by relevance
        left[best] = False
        nearest = np.maximum(nearest, likeness.to(best))
        chosen.append(rescored(hits[best], float(values[best])))
    return chosen


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Share of two texts' words that both have (Jaccard)."""
    both = len(one & other)
    return both / (len(one) + len(other) - both) if both else 0.0


class _Likeness:
    """How alike hits are: the cosine inside one space, shared words across two."""

    def __init__(self, hits: Sequence[Hit], vectors: Sequence[np.ndarray], spaces: Sequence[str]) -> None:
        self._spaces = np.array(spaces)
        self._places = {space: np.flatnonzero(self._spaces == space) for space in set(spaces)}
        self._vectors = {
            space: np.stack([vectors[int(at)] for at in places]) for space, places in self._places.items()
        }
        mixed = len(self._places) > 1
        self._words = [frozenset(hit.text.lower().split()) for hit in hits] if mixed else []

    def to(self, chosen: int) -> NDArray[np.float64]:
        """Likeness (n,) of every hit to the chosen one."""
        space = str(self._spaces[chosen])
        places, vectors = self._places[space], self._vectors[space]
        own = vectors[int(np.searchsorted(places, chosen))]
        found = np.zeros(len(self._spaces))
        found[places] = vectors @ own
        for at in np.flatnonzero(self._spaces != space):
            found[at] = overlap(self._words[at], self._words[chosen])
        return found
