"""Two or more scored lists become one: by weighted sum, by rank, or by deviation from the mean."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.types import Within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Place = tuple[str, int]
    """A chunk across tables: its domain and its key there."""

    Scores = Mapping[Place, float]

VECTOR_WEIGHT = 0.7
"""Weight of the vector search in a hybrid score; docs/quality.md says how it was chosen."""

EVEN_WEIGHT = 0.5
"""Its weight where ranks are joined, unless another is asked for: as the method was published."""

DEPTH = 100
"""Candidates each search gives to fusion, at least; five times k when that is more."""

_BELOW = 1e-3
"""What is left of the distance to the lower end of a list, of a score below it."""

DEVIATIONS = 3.0
"""How far around its mean a list is taken to reach."""


def joined(
    vector: Scores, text: Scores, *, within: Within, weight: float | None = None
) -> dict[Place, float]:
    """The vector and the full-text list of one query as one."""
    match within:
        case Within.WEIGHTED:
            return convex(vector, text, weight=VECTOR_WEIGHT if weight is None else weight)
        case Within.DBSF:
            return by_deviation(vector, text, weight=VECTOR_WEIGHT if weight is None else weight)
        case Within.RRF:
            share = EVEN_WEIGHT if weight is None else weight
            return reciprocal_rank([ranked(vector), ranked(text)], weights=[share, 1 - share])


def convex(vector: Scores, text: Scores, *, weight: float = VECTOR_WEIGHT) -> dict[Place, float]:
    """Weighted sum of two score lists, each scaled from its DEPTH-th best score (0) to its best (1).

    Bruch et al., "An Analysis of Fusion Functions for Hybrid Retrieval", TOIS 2023, with min-max scaling. The
    lower end is taken at a fixed place, so that the order at the top does not depend on how many candidates
    were asked for. A candidate that one list lacks is taken to be as good there as that list's last. A
    shorter list of cosines holds every row and begins at its lowest; a shorter list of BM25 scores lacks rows
    that do not match: 0.
    """
    near, far = from_last_to_best(vector, shortest=min(vector.values(), default=0.0))
    match, apart = from_last_to_best(text, shortest=0.0)
    return {
        place: weight * near.get(place, far) + (1 - weight) * match.get(place, apart)
        for place in vector.keys() | text.keys()
    }


def by_deviation(vector: Scores, text: Scores, *, weight: float = VECTOR_WEIGHT) -> dict[Place, float]:
    """Weighted sum of two score lists, each scaled to three deviations around its mean (0 to 1).

    Distribution-based score fusion. A candidate that one list lacks earns nothing there.
    """
    near, match = around_mean(vector), around_mean(text)
    return {
        place: weight * near.get(place, 0.0) + (1 - weight) * match.get(place, 0.0)
        for place in vector.keys() | text.keys()
    }


def reciprocal_rank(
    lists: Sequence[Sequence[Place]], *, weights: Sequence[float] | None = None, damping: int = 60
) -> dict[Place, float]:
    """Score of each item, larger is better; one missing from a list earns nothing there.

    Cormack et al., "Reciprocal Rank Fusion outperforms Condorcet ...", SIGIR 2009.
    """
    scores: dict[Place, float] = defaultdict(float)
    for ordered, weight in zip(lists, weights or [1.0] * len(lists), strict=True):
        for rank, item in enumerate(ordered, start=1):
            scores[item] += weight / (damping + rank)
    return dict(scores)


def ranked(scores: Scores) -> list[Place]:
    """Places, best first; ties by domain and key."""
    return sorted(scores, key=lambda place: (-scores[place], place))


def from_last_to_best(scores: Scores, *, shortest: float) -> tuple[dict[Place, float], float]:
    """Scaled scores, and what a missing one is worth; `shortest`: the lower end of a list below DEPTH.

    Below the lower end, where longer lists reach, scores go on falling by next to nothing: whether ten hits
    are asked for or fifty, the first ten are the same.
    """
    best = sorted(scores.values(), reverse=True)
    if not best:
        return {}, 0.0
    high, low = best[0], best[DEPTH - 1] if len(best) >= DEPTH else shortest
    if high <= low:
        return dict.fromkeys(scores, 1.0), 0.0
    scaled = {place: (score - low) / (high - low) for place, score in scores.items()}
    levelled = {place: score if score > 0 else _BELOW * score for place, score in scaled.items()}
    return levelled, min(0.0, *levelled.values())


def standardised(scores: Scores) -> dict[Place, float]:
    """Deviations from the mean; 0 where all are equal."""
    if not scores:
        return {}
    values = np.array(list(scores.values()), np.float64)
    deviation = float(values.std())
    if deviation <= np.finfo(np.float32).eps * float(np.abs(values).max()):
        return dict.fromkeys(scores, 0.0)
    return dict(zip(scores, ((values - values.mean()) / deviation).tolist(), strict=True))


def around_mean(scores: Scores) -> dict[Place, float]:
    """From 0, three deviations below the mean, to 1, three above; what lies beyond is cut off."""
    return {
        place: min(1.0, max(0.0, 0.5 + value / (2 * DEVIATIONS)))
        for place, value in standardised(scores).items()
    }
