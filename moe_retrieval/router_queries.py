"""Questions whose domain is known: what a router learns from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.router_choice import ENOUGH, Held, log_softmax
from moe_retrieval.router_terms import TermClassifier, Terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SELF = 1 - 1e-4  # cosine from which on two texts are the same
_SURE = 0.9  # docs/fusion.md says what the route counts for above and below it
_RIDGE = 1.0  # what a domain's offset costs, in questions


@dataclass(frozen=True, slots=True)
class KnownQueries:
    """Vectors (m, dim) of questions under `general`, the domain and the terms of each, and what was fitted on
    them.

    `scales` are what logits, nearest chunks, nearest questions and the terms' logits are multiplied by, and
    `offsets` (the router's domains,) are added; both empty where there were too few questions. No
    `classifier`: of their terms nothing is known, and the scales are three.
    """

    vectors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    domains: tuple[str, ...] = ()
    terms: Terms = field(default_factory=Terms)
    classifier: TermClassifier | None = None
    scales: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    offsets: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    held: Held = field(default_factory=Held)

    @classmethod
    def of(
        cls, texts: Sequence[str], vectors: NDArray[np.float32], *, domains: Sequence[str]
    ) -> KnownQueries:
        """Questions as precise as they are saved; nothing is fitted yet."""
        rounded = np.asarray(vectors, np.float32).astype(np.float16).astype(np.float32)
        return cls(rounded, tuple(domains), Terms.of(texts))

    @property
    def fitted(self) -> bool:
        return len(self.scales) > 0

    @property
    def sure(self) -> bool:
        """Whether the right domains of questions that it had not seen got a probability of 0.9 on average."""
        return self.fitted and float(self.held.chances.mean()) >= _SURE

    def among(self, domains: Sequence[str]) -> KnownQueries:
        """Those of these domains, and nothing fitted but the classifier of terms, if it is still the same."""
        kept = [place for place, domain in enumerate(self.domains) if domain in domains]
        if len(kept) == len(self.domains):
            return KnownQueries(self.vectors, self.domains, self.terms, self.classifier)
        terms = self.terms.take(kept) if self.terms else self.terms
        return KnownQueries(self.vectors[kept], tuple(self.domains[place] for place in kept), terms)

    def renamed(self, old: str, new: str) -> KnownQueries:
        """The same, with another name for a domain."""
        names = tuple(new if name == old else name for name in self.domains)
        classifier = self.classifier.renamed(old, new) if self.classifier else None
        return replace(self, domains=names, classifier=classifier)

    def said(
        self, vectors: NDArray[np.float32], texts: Sequence[str], *, domains: Sequence[str]
    ) -> list[NDArray[np.float64]]:
        """Opinions (n, domains): by the nearest question, and by the terms where these are known."""
        opinions = [self.nearest(vectors, domains)]
        if self.classifier:
            logits = self.classifier.logits(Terms.of(texts))
            opinions.append(_aligned(logits, self.classifier.domains, domains))
        return opinions

    def joined(self, opinions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores (n, domains) of the opinions (opinions, n, domains)."""
        total: NDArray[np.float64] = np.tensordot(self.scales, opinions, 1) + self.offsets
        return total

    def tried(self, domains: Sequence[str]) -> list[NDArray[np.float64]]:
        """The same of the questions themselves, each without itself."""
        opinions = [self.nearest(self.vectors, domains, but_itself=True)]
        if self.classifier:
            opinions.append(_aligned(self.classifier.tried, self.classifier.domains, domains))
        return opinions

    def nearest(
        self, vectors: NDArray[np.float32], domains: Sequence[str], *, but_itself: bool = False
    ) -> NDArray[np.float64]:
        """Cosine (n, domains) of the nearest question of each domain; of a domain without any, the mean of
        the others, which speaks neither for nor against it.
        """
        places = {domain: place for place, domain in enumerate(domains)}
        owners = np.array([places[domain] for domain in self.domains])
        order = np.argsort(owners, kind="stable")
        known, starts = np.unique(owners[order], return_index=True)
        cosines = (vectors @ self.vectors.T)[:, order].astype(np.float64)
        if but_itself:
            cosines = np.where(cosines > _SELF, -np.inf, cosines)
        found = np.full((len(vectors), len(domains)), np.nan)
        found[:, known] = np.maximum.reduceat(cosines, starts, axis=1)
        found[np.isneginf(found)] = np.nan
        return _neutral(found)


def fit_queries(
    known: KnownQueries,
    *,
    domains: Sequence[str],
    logits: NDArray[np.float64],
    near: NDArray[np.float64],
    begin: Sequence[float],
) -> KnownQueries:
    """Scales and offsets under which the questions' domains are likeliest, each judged without itself, and
    what the router then says of them. `logits` and `near` are (m, domains); the search begins at the scales
    `begin` (4,).
    """
    if len(known.domains) < ENOUGH or len(set(known.domains)) < 2:
        return known
    if known.terms and known.classifier is None:
        known = replace(known, classifier=TermClassifier.fit(known.terms, known.domains))
    places = {domain: place for place, domain in enumerate(domains)}
    targets = np.array([places[domain] for domain in known.domains])
    parts = np.stack([logits, near, *known.tried(domains)])
    scales, offsets = _likeliest(parts, targets, begin=begin[: len(parts)])
    fitted = replace(known, scales=scales, offsets=offsets)
    return replace(fitted, held=Held.of(fitted.joined(parts), targets))


def _aligned(
    logits: NDArray[np.floating], known: Sequence[str], domains: Sequence[str]
) -> NDArray[np.float64]:
    """Columns of these domains; of one that is not known, the mean of the others."""
    found = np.full((len(logits), len(domains)), np.nan)
    found[:, [domains.index(domain) for domain in known]] = logits
    return _neutral(found)


def _neutral(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """With the mean of its row in place of a NaN: it speaks neither for nor against that domain."""
    counts = np.maximum((~np.isnan(scores)).sum(axis=1, keepdims=True), 1)
    return np.where(np.isnan(scores), np.nansum(scores, axis=1, keepdims=True) / counts, scores)


def _likeliest(
    parts: NDArray[np.float64], targets: NDArray[np.int64], *, begin: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights above 0 of the parts (parts, n, domains) of a score, and what is added for each domain.

    The latter are small unless many questions speak for them, and sum to zero over the domains that were
    asked about; the others get none.
    """
    from scipy.optimize import minimize

    rows, asked, size = np.arange(len(targets)), np.unique(targets), len(parts)

    def offsets(free: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.zeros(parts.shape[2])
        found[asked] = free - free.mean()
        return found

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, free = np.exp(values[:size]), values[size:]
        logs = log_softmax(np.tensordot(weights, parts, 1) + offsets(free))
        slope = np.exp(logs)
        slope[rows, targets] -= 1
        each = slope.sum(axis=0)[asked]
        steps = [weights * np.tensordot(parts, slope, 2), each - each.mean() + _RIDGE * free]
        return -float(logs[rows, targets].sum()) + _RIDGE * float(free @ free) / 2, np.concatenate(steps)

    start = np.concatenate([np.log(begin), np.zeros(len(asked))])
    bounds = [(-9.0, 6.0)] * size + [(None, None)] * len(asked)
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return np.exp(found[:size]), offsets(found[size:])
