"""Join ranked lists into one: vector with text inside a space, and space with space.

Cosines of domains that share an expert are comparable, so their lists are pooled. Cosines of two experts
are not (each expert has its own scale): where their domains are calibrated, they are pooled as probabilities,
else spaces are joined by rank, weighted by the route.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.calibration import Basis, DomainCalibration, Tuning
from moe_retrieval.errors import UsageError
from moe_retrieval.retrieval.joining import (
    DEPTH,
    around_mean,
    from_last_to_best,
    joined,
    ranked,
    standardised,
)
from moe_retrieval.retrieval.joining import VECTOR_WEIGHT as VECTOR_WEIGHT
from moe_retrieval.retrieval.joining import convex as convex
from moe_retrieval.retrieval.joining import reciprocal_rank as reciprocal_rank
from moe_retrieval.retrieval.reasons import reasons_of
from moe_retrieval.retrieval.refining.collapse import copies, first_of_each
from moe_retrieval.types import Across, Fusing, Mode, Within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moe_retrieval.storage.found import Found
    from moe_retrieval.types import Why

Place = tuple[str, int]
"""A chunk across tables: its domain and its key there."""

LOWEST_ROUTE = 1e-3
"""A less probable domain, which a caller must have named or the router was in doubt about, counts as this."""


ROUTE_POWER = 0.05
"""Exponent of a domain's probability in a hybrid score; docs/fusion.md says how it was chosen."""

SURE_ROUTE_POWER = 0.5
"""The same, where the router is sure of questions and right (`KnownQueries.sure`)."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What one domain's searches found, best first; None for a search not made. `seconds` by stage.

    `route_power` is the exponent of the domain's probability in a hybrid score.
    """

    domain: str
    space: str
    probability: float
    vector: Found | None
    text: Found | None
    route_power: float = ROUTE_POWER
    seconds: Mapping[str, float] = field(default_factory=dict)


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


def fuse(
    searched: Sequence[Searched],
    *,
    mode: Mode,
    k: int,
    fusing: Fusing | None = None,
    calibration: Mapping[str, DomainCalibration] | None = None,
    tuning: Tuning | None = None,
) -> list[Ranked]:
    """The best `k` candidates of all domains, best first; ties by domain and key.

    Each list holds the best `search_depth(k)` rows of its domain, or all where there are fewer. A chunk that
    several domains hold comes once, where it scores best. `fusing` goes before `tuning`.

    Raises:
        UsageError: calibrated fusion is asked for, and a domain has no calibration.
    """
    fusing, calibration = fusing or Fusing(), calibration or {}
    way = chosen_way(searched, mode=mode, fusing=fusing, calibration=calibration)
    join = _Join(mode, fusing, tuning or Tuning(), depth=search_depth(k))
    if way is None:
        scores = join.of(searched, _lists(searched, "vector"), _lists(searched, "text"))
    elif way is Across.RRF:
        scores = _by_rank(searched, join)
    else:
        scores = join.of(searched, *_scaled(searched, way, calibration, mode=mode))
    order = ranked(scores)
    best, elsewhere = first_of_each(order)[:k], copies(order)
    reasons = reasons_of(searched, elsewhere)
    return [Ranked(domain=place[0], key=place[1], score=scores[place], why=reasons[place]) for place in best]


def chosen_way(
    searched: Sequence[Searched],
    *,
    mode: Mode,
    fusing: Fusing,
    calibration: Mapping[str, DomainCalibration],
) -> Across | None:
    """How `fuse` joins the spaces of these searches; None where there is one, or none.

    `auto` takes probabilities where every domain is calibrated, else ranks; full-text scores alone, which no
    calibration is of, it joins by rank.

    Raises:
        UsageError: calibrated fusion is asked for, and a domain has no calibration.
    """
    if len({one.space for one in searched}) < 2:
        return None
    missing = sorted({one.domain for one in searched} - calibration.keys())
    if fusing.across is Across.CALIBRATED and missing:
        raise UsageError(
            f"domain {missing[0]} is not calibrated, so its scores are no probabilities",
            hint="moeret index calibrates it from its own texts; or join by rank: --fusion rrf",
        )
    if fusing.across is not Across.AUTO:
        return fusing.across
    return Across.RRF if missing or mode is Mode.TEXT else Across.CALIBRATED


# --- inside a list of pooled candidates ---


Lists = dict[str, dict[Place, float]]
"""Scores of the candidates of each domain."""


@dataclass(frozen=True, slots=True)
class _Join:
    """How pooled vector and full-text lists become one."""

    mode: Mode
    fusing: Fusing
    tuning: Tuning
    depth: int

    def of(self, searched: Sequence[Searched], vector: Lists, text: Lists) -> dict[Place, float]:
        """Scores of the pooled candidates."""
        near, match = _pooled(vector, depth=self.depth), _pooled(text, depth=self.depth)
        if self.mode is not Mode.HYBRID:
            return near if self.mode is Mode.VECTOR else match
        within = self.fusing.within or self.tuning.within or Within.WEIGHTED
        scores = joined(near, match, within=within, weight=self.weight(searched))
        shares = _shares(searched)
        return {place: score * shares[place[0]] for place, score in scores.items()}

    def weight(self, searched: Sequence[Searched]) -> float | None:
        """That of the vector search: as asked for, else the mean of what the domains were tuned to."""
        if self.fusing.weight is not None:
            return self.fusing.weight
        if self.fusing.within not in (None, self.tuning.within or Within.WEIGHTED):
            return None  # a weight that was tuned for another way says nothing here
        own, whole = self.tuning.weights, self.tuning.weight
        if not any(one.domain in own for one in searched):
            return whole
        fallback = VECTOR_WEIGHT if whole is None else whole
        shares = [_chance(one) for one in searched]
        parts = [share * own.get(one.domain, fallback) for one, share in zip(searched, shares, strict=True)]
        return math.fsum(parts) / math.fsum(shares)


def _shares(searched: Sequence[Searched]) -> dict[str, float]:
    """What a hybrid score, which is no probability, is multiplied by in each domain: 1 in the likeliest, and
    in all that a caller named.
    """
    highest = max((_chance(one) for one in searched), default=1.0)
    return {one.domain: (_chance(one) / highest) ** one.route_power for one in searched}


def _chance(searched: Searched) -> float:
    return max(searched.probability, LOWEST_ROUTE)


def _lists(searched: Sequence[Searched], which: str) -> Lists:
    """One search's scores, by domain."""
    lists: Lists = {}
    for one in searched:
        found = one.vector if which == "vector" else one.text
        if found is not None:
            pairs = zip(found.keys, found.scores, strict=True)
            lists[one.domain] = {(one.domain, int(key)): float(score) for key, score in pairs}
    return lists


def _pooled(lists: Lists, *, depth: int) -> dict[Place, float]:
    """The lists of several domains as one, cut to the length of a single search.

    The cut keeps the scaling of `convex` the same whether a corpus lies in one table or in five.
    """
    scores = {place: score for one in lists.values() for place, score in one.items()}
    return {place: scores[place] for place in ranked(scores)[:depth]}


# --- from space to space ---


def _spaces(searched: Sequence[Searched]) -> list[list[Searched]]:
    spaces: dict[str, list[Searched]] = defaultdict(list)
    for one in searched:
        spaces[one.space].append(one)
    return list(spaces.values())


def _by_rank(searched: Sequence[Searched], join: _Join) -> dict[Place, float]:
    """Rank fusion over spaces, each weighted by the probability of its most likely domain."""
    spaces = _spaces(searched)
    lists = [ranked(join.of(part, _lists(part, "vector"), _lists(part, "text"))) for part in spaces]
    return reciprocal_rank(lists, weights=[max(one.probability for one in part) for part in spaces])


def _scaled(
    searched: Sequence[Searched],
    way: Across,
    calibration: Mapping[str, DomainCalibration],
    *,
    mode: Mode,
) -> tuple[Lists, Lists]:
    """Vector and full-text lists by domain, made comparable the way that was chosen."""
    vector, text = _lists(searched, "vector"), _lists(searched, "text")
    match way:
        case Across.COSINE:
            return vector, text
        case Across.CALIBRATED:
            return _as_chances(searched, vector, calibration, mode=mode), text
        case _:
            return _by_space(searched, vector, way), _by_space(searched, text, way)


def _as_chances(
    searched: Sequence[Searched],
    vector: Lists,
    calibration: Mapping[str, DomainCalibration],
    *,
    mode: Mode,
) -> Lists:
    """Logarithm of p(domain) x p(relevant | cosine, domain): of the same order as the product, and evenly
    spread where the product is all but 0.

    Under a hybrid score, which is multiplied by the route's share, p(domain) is left out where all curves are
    by statistics: these put experts on one scale. Curves by judgements speak of queries that were meant for
    the domain, so it has to count in full.
    """
    by_statistics = all(calibration[one.domain].basis is Basis.STATISTICS for one in searched)
    routed = mode is not Mode.HYBRID or not by_statistics
    lists: Lists = {}
    for one in searched:
        scores = vector.get(one.domain, {})
        odds = calibration[one.domain].log_odds(np.array(list(scores.values())))
        chances = (math.log(_chance(one)) if routed else 0.0) - np.logaddexp(0.0, -odds)
        lists[one.domain] = dict(zip(scores, chances.tolist(), strict=True))
    return lists


def _by_space(searched: Sequence[Searched], lists: Lists, way: Across) -> Lists:
    """Each space's list scaled by its own scores."""
    scaled: Lists = {}
    for part in _spaces(searched):
        pool = {place: score for one in part for place, score in lists.get(one.domain, {}).items()}
        chance = max(one.probability for one in part)
        for place, score in _by_own(pool, way, chance).items():
            scaled.setdefault(place[0], {})[place] = score
    return scaled


def _by_own(pool: Mapping[Place, float], way: Across, chance: float) -> dict[Place, float]:
    if way is Across.ZSCORE:
        return standardised(pool)
    if way is Across.DBSF:
        return around_mean(pool)
    scaled, _ = from_last_to_best(pool, shortest=min(pool.values(), default=0.0))
    return {place: chance * score for place, score in scaled.items()}
