"""Questions whose domain is known: what a router learns from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.router_choice import ENOUGH, Held, log_softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SELF = 1 - 1e-4  # cosine from which on two texts are the same


@dataclass(frozen=True, slots=True)
class KnownQueries:
    """Vectors (m, dim) of questions under `general`, the domain of each, and what was fitted on them.

    `scales` (3,) are what logits, nearest chunks and nearest questions are multiplied by; empty where there
    were too few.
    """

    vectors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    domains: tuple[str, ...] = ()
    scales: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    held: Held = field(default_factory=Held)

    @classmethod
    def of(cls, vectors: NDArray[np.float32], domains: Sequence[str]) -> KnownQueries:
        """Questions as precise as they are saved; nothing is fitted yet."""
        return cls(np.asarray(vectors, np.float32).astype(np.float16).astype(np.float32), tuple(domains))

    @property
    def fitted(self) -> bool:
        return len(self.scales) > 0

    def among(self, domains: Sequence[str]) -> KnownQueries:
        """Those of these domains."""
        kept = [place for place, domain in enumerate(self.domains) if domain in domains]
        return KnownQueries(self.vectors[kept], tuple(self.domains[place] for place in kept))

    def renamed(self, old: str, new: str) -> KnownQueries:
        """The same, with another name for a domain."""
        return replace(self, domains=tuple(new if name == old else name for name in self.domains))

    def nearest(
        self, vectors: NDArray[np.float32], domains: Sequence[str], *, but_itself: bool = False
    ) -> NDArray[np.float64]:
        """Cosine (n, domains) of the nearest question of each domain; of a domain without any, the mean of
        the others, which speaks neither for nor against it.
        """
        owners = np.array(self.domains)
        found = np.full((len(vectors), len(domains)), np.nan)
        for place, domain in enumerate(domains):
            own = self.vectors[owners == domain]
            cosines = vectors @ own.T
            if but_itself:
                cosines = np.where(cosines > _SELF, np.nan, cosines)
            known = ~np.isnan(cosines)
            best = np.max(cosines, axis=1, initial=-np.inf, where=known)
            found[:, place] = np.where(known.any(axis=1), best, np.nan)
        counts = np.maximum((~np.isnan(found)).sum(axis=1, keepdims=True), 1)
        return np.where(np.isnan(found), np.nansum(found, axis=1, keepdims=True) / counts, found)


def fit_queries(
    known: KnownQueries,
    *,
    domains: Sequence[str],
    logits: NDArray[np.float64],
    near: NDArray[np.float64],
    begin: Sequence[float],
) -> KnownQueries:
    """Scales under which the questions' domains are likeliest, each judged without itself, and what the
    router then says of them. `logits` and `near` are (m, domains); the search begins at `begin` (3,).
    """
    if len(known.domains) < ENOUGH or len(set(known.domains)) < 2:
        return known
    places = {domain: place for place, domain in enumerate(domains)}
    targets = np.array([places[domain] for domain in known.domains])
    parts = np.stack([logits, near, known.nearest(known.vectors, domains, but_itself=True)])
    scales = _likeliest(parts, targets, begin=begin)
    return replace(known, scales=scales, held=Held.of(np.tensordot(scales, parts, 1), targets))


def _likeliest(
    parts: NDArray[np.float64], targets: NDArray[np.int64], *, begin: Sequence[float]
) -> NDArray[np.float64]:
    """Weights above 0 of the parts (parts, n, domains) of a score."""
    from scipy.optimize import minimize

    rows = np.arange(len(targets))

    def loss(logs: NDArray[np.float64]) -> float:
        scores = np.tensordot(np.exp(logs), parts, 1)
        return -float(log_softmax(scores)[rows, targets].mean())

    bounds = [(-9.0, 6.0)] * len(parts)
    found: NDArray[np.float64] = np.exp(minimize(loss, np.log(begin), bounds=bounds).x)
    return found
