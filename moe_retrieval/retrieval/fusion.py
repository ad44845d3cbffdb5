"""Join ranked lists into one: vector with text inside a space, then space with space.

Cosines of domains that share an expert are comparable, so their lists are pooled before they are
normalised. Cosines of two experts are not (each expert has its own scale), so spaces are joined by rank,
weighted by the route.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.types import Mode, Why

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moe_retrieval.storage.found import Found

VECTOR_WEIGHT = 0.7
"""Weight of the vector search in a hybrid score; docs/quality.md says how it was chosen."""

DEPTH = 100
"""Candidates each search gives to fusion, at least; five times k when that is more."""

Place = tuple[str, int]
"""A chunk across tables: its domain and its key there."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What one domain's searches found, best first; None for a search that was not made."""

    domain: str
    space: str
    probability: float
    vector: Found | None
    text: Found | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A fused candidate: where it is, its score and how it came there."""

    domain: str
    key: int
    score: float
    why: Why


def search_depth(k: int) -> int:
    """How many candidates each search gives to `fuse` for `k` hits."""
    return max(DEPTH, 5 * k)


def fuse(searched: Sequence[Searched], *, mode: Mode, k: int) -> list[Ranked]:
    """The best `k` candidates of all domains, best first; ties by domain and key.

    Each list holds the best `search_depth(k)` rows of its domain, or all where there are fewer.
    """
    spaces: dict[str, list[Searched]] = defaultdict(list)
    for one in searched:
        spaces[one.space].append(one)
    scored = [_within(part, mode=mode, depth=search_depth(k)) for part in spaces.values()]
    scores = scored[0] if len(scored) == 1 else _across(scored, list(spaces.values()))
    best = sorted(scores, key=lambda place: (-scores[place], place))[:k]
    reasons = _reasons(searched)
    return [Ranked(domain=place[0], key=place[1], score=scores[place], why=reasons[place]) for place in best]


def convex(
    vector: Mapping[Place, float], text: Mapping[Place, float], *, weight: float = VECTOR_WEIGHT
) -> dict[Place, float]:
    """Weighted sum of two score lists, each scaled from its DEPTH-th best score (0) to its best (1).

    Bruch et al., "An Analysis of Fusion Functions for Hybrid Retrieval", TOIS 2023, with min-max scaling. The
    lower end is taken at a fixed place, so that the order at the top does not depend on how many candidates
    were asked for. A candidate that one list lacks is taken to be as good there as that list's last. A
    shorter list of cosines holds every row and begins at its lowest; a shorter list of BM25 scores lacks rows
    that do not match: 0.
    """
    near, far = _scaled(vector, shortest=min(vector.values(), default=0.0))
    match, apart = _scaled(text, shortest=0.0)
    return {
        place: weight * near.get(place, far) + (1 - weight) * match.get(place, apart)
        for place in vector.keys() | text.keys()
    }


def _scaled(scores: Mapping[Place, float], *, shortest: float) -> tuple[dict[Place, float], float]:
    """Scaled scores, and what a missing one is worth; `shortest`: the lower end of a list below DEPTH."""
    best = sorted(scores.values(), reverse=True)
    if not best:
        return {}, 0.0
    high, low = best[0], best[DEPTH - 1] if len(best) >= DEPTH else shortest
    if high <= low:
        return dict.fromkeys(scores, 1.0), 0.0
    scaled = {place: (score - low) / (high - low) for place, score in scores.items()}
    return scaled, min(0.0, *scaled.values())


def reciprocal_rank(
    lists: Sequence[Sequence[Place]], *, weights: Sequence[float] | None = None, damping: int = 60
) -> dict[Place, float]:
    """Score of each item, larger is better; one missing from a list earns nothing there.

    Cormack et al., "Reciprocal Rank Fusion outperforms Condorcet ...", SIGIR 2009.
    """
    scores: dict[Place, float] = defaultdict(float)
    for ranked, weight in zip(lists, weights or [1.0] * len(lists), strict=True):
        for rank, item in enumerate(ranked, start=1):
            scores[item] += weight / (damping + rank)
    return dict(scores)


def _within(searched: Sequence[Searched], *, mode: Mode, depth: int) -> dict[Place, float]:
    """Scores inside one space."""
    vector = _pooled({one.domain: one.vector for one in searched}, depth=depth)
    text = _pooled({one.domain: one.text for one in searched}, depth=depth)
    match mode:
        case Mode.VECTOR:
            return vector
        case Mode.TEXT:
            return text
        case Mode.HYBRID:
            return convex(vector, text)


def _pooled(found: Mapping[str, Found | None], *, depth: int) -> dict[Place, float]:
    """The lists of several domains as one, cut to the length of a single search.

    The cut keeps the scaling of `convex` the same whether a corpus lies in one table or in five.
    """
    scores = {
        (domain, int(key)): float(score)
        for domain, one in found.items()
        if one is not None
        for key, score in zip(one.keys, one.scores, strict=True)
    }
    best = sorted(scores, key=lambda place: (-scores[place], place))[:depth]
    return {place: scores[place] for place in best}


def _across(
    scored: Sequence[Mapping[Place, float]], spaces: Sequence[Sequence[Searched]]
) -> dict[Place, float]:
    """Rank fusion over spaces, each weighted by the probability of its most likely domain."""
    lists = [sorted(scores, key=lambda place: (-scores[place], place)) for scores in scored]
    weights = [max(one.probability for one in part) for part in spaces]
    return reciprocal_rank(lists, weights=weights)


def _reasons(searched: Sequence[Searched]) -> dict[Place, Why]:
    """Route, rank and score of every candidate in the searches of its own domain."""
    reasons: dict[Place, Why] = {}
    for one in searched:
        vector, text = _ranks(one.vector), _ranks(one.text)
        for key in vector.keys() | text.keys():
            vector_rank, vector_score = vector.get(key, (None, None))
            text_rank, text_score = text.get(key, (None, None))
            reasons[one.domain, key] = Why(one.probability, vector_rank, vector_score, text_rank, text_score)
    return reasons


def _ranks(found: Found | None) -> dict[int, tuple[int, float]]:
    if found is None:
        return {}
    pairs = zip(found.keys, found.scores, strict=True)
    return {int(key): (rank, float(score)) for rank, (key, score) in enumerate(pairs, start=1)}
