"""Choose how vector and full text are weighed, for a whole store and for each of its domains.

A curve is the mean nDCG of a domain's queries under every way there is. Curves of few queries are noise, so
each is drawn towards that of the whole store: with n queries it counts n against a strength t, and in the
curve of the store it counts n / (n + t), as in a random-effects mean (DerSimonian and Laird, Controlled
Clinical Trials 1986; the domain's own curve is the empirical Bayes estimate of the same model). Which t is
right is measured, on folds of the queries that are chosen by; an endless one is a single way for all. A
choice that is not better in these folds than the default is not made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.retrieval.joining import VECTOR_WEIGHT
from moe_retrieval.types import Within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Values = NDArray[np.float64]

STRENGTHS = (math.inf, 200.0, 100.0, 50.0, 25.0, 12.0)
"""Queries that the curve of the store counts for, from the plainest choice on."""

FOLDS, ROUNDS = 5, 4
_STEPS = 20


@dataclass(frozen=True, slots=True)
class Way:
    """How the two lists of a query are joined; `weight`: of the vector search, where that counts."""

    within: Within
    weight: float


WAYS = (
    *(Way(Within.WEIGHTED, step / _STEPS) for step in range(_STEPS + 1)),
    Way(Within.RRF, 0.5),
    Way(Within.DBSF, 0.5),
)
"""Every way that is tried: text alone (weight 0) to vector alone (1), and those without a weight."""

DEFAULT = Way(Within.WEIGHTED, VECTOR_WEIGHT)
_WEIGHTED = [place for place, way in enumerate(WAYS) if way.within is Within.WEIGHTED]


@dataclass(frozen=True, slots=True)
class Choice:
    """Numbers of the ways chosen, for the store and for domains; `strength`: see above.

    `expected`: mean value of the choice on queries that it was not made by, in folds.
    """

    store: int
    domains: Mapping[str, int] = field(default_factory=dict)
    strength: float = math.inf
    expected: float = float("nan")

    def of(self, domain: str) -> int:
        return self.domains.get(domain, self.store)


def choose(values: Values, domains: Sequence[str], *, seed: int = 0) -> Choice:
    """The best of `WAYS` by `values` (queries, ways), nDCG of each query, and the `domains` of the queries.

    A query without a domain ("") counts for the store only. Domains differ in their weights alone: where the
    store does best without one, so do they.
    """
    labels, smooth = np.array(domains), values @ smoothing(WAYS).T
    folds = _folds(len(values), seed=seed)
    default = WAYS.index(DEFAULT)
    best = Choice(default, expected=float(values[:, default].mean()))
    for strength in STRENGTHS if len(set(domains) - {""}) > 1 else STRENGTHS[:1]:
        expected = _expected(values, smooth, labels, folds=folds, strength=strength)
        if expected > best.expected + 1e-12:
            best = _fitted(smooth, labels, strength=strength, expected=expected)
    return best


def smoothing(ways: Sequence[Way]) -> Values:
    """What a way's value is averaged over, (ways, ways): itself and, where it has a weight, its neighbours.

    The order of the top ten changes by jumps; a weight whose neighbours are bad is luck.
    """
    kernel = np.eye(len(ways))
    for at, way in enumerate(ways):
        if way.within is not Within.WEIGHTED:
            continue
        near = np.array([one.within is Within.WEIGHTED for one in ways])
        apart = np.array([abs(one.weight - way.weight) * _STEPS for one in ways])
        kernel[at] = np.where(near, np.maximum(0.0, 3 - apart), 0.0)
    result: Values = kernel / kernel.sum(axis=1, keepdims=True)
    return result


def _fitted(smooth: Values, labels: NDArray[np.str_], *, strength: float, expected: float = 0.0) -> Choice:
    names = sorted(set(labels.tolist()))
    counts = np.array([(labels == name).sum() for name in names], np.float64)
    curves = np.array([smooth[labels == name].mean(axis=0) for name in names])
    curves -= curves.mean(axis=1, keepdims=True)  # how hard a domain's queries are is not at issue
    shares = counts if math.isinf(strength) else counts / (counts + strength)
    store = shares @ curves / shares.sum()
    chosen = int(np.argmax(store))
    if math.isinf(strength) or chosen not in _WEIGHTED:
        return Choice(chosen, expected=expected)
    own = (counts[:, None] * curves + strength * store)[:, _WEIGHTED]
    best = {name: _WEIGHTED[int(np.argmax(curve))] for name, curve in zip(names, own, strict=True) if name}
    return Choice(chosen, best, strength=strength, expected=expected)


def _expected(
    values: Values, smooth: Values, labels: NDArray[np.str_], *, folds: NDArray[np.int64], strength: float
) -> float:
    """Mean value on each fold of what the other folds choose."""
    found = np.zeros(folds.shape)
    for turn, fold in enumerate(folds):
        for part in range(FOLDS):
            left = fold == part
            if left.all() or not left.any():
                continue
            choice = _fitted(smooth[~left], labels[~left], strength=strength)
            places = np.flatnonzero(left)
            found[turn, places] = [values[at, choice.of(str(labels[at]))] for at in places]
    return float(found.mean())


def _folds(count: int, *, seed: int) -> NDArray[np.int64]:
    """The fold of every query, (rounds, queries)."""
    generator = np.random.default_rng(seed)
    even = np.arange(count) % FOLDS
    return np.stack([generator.permutation(even) for _ in range(ROUNDS)])
