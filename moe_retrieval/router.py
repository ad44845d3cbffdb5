"""Which domains a text belongs to, with probabilities that mean what they say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from moe_retrieval.errors import ModelError, UsageError
from moe_retrieval.router_choice import Choice, Held, Kind, choose, log_softmax
from moe_retrieval.router_file import (
    held_from,
    packed,
    packed_held,
    packed_queries,
    queries_from,
    read_checked,
    unpacked,
)
from moe_retrieval.router_fitting import exemplars_of, first_of_each, held_out, regression, temperature
from moe_retrieval.router_queries import KnownQueries, fit_queries
from moe_retrieval.storage.durability import file_faults, write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from moe_retrieval.types import Route

_LINEAR_SHARE = 0.3
"""Weight of the classifier in the log probability; docs/routing.md says what either part does alone."""
_SHARPNESS = 20.0  # of the nearest cosines, where nothing is held out to fit it on
_SELF = 1 - 1e-4  # cosine from which on two texts are the same
_ROWS = 512  # texts compared with all exemplars at a time


@dataclass(frozen=True, slots=True)
class Router:
    """A linear classifier and a nearest exemplar per domain, over vectors of the general expert.

    `weights` (domains, dim) and `bias` (domains,) give logits. `exemplars` (n, dim) are chunks, those of
    domain i from `starts[i]` on; the cosine of the nearest one of each domain is the second opinion. A
    classifier learns from chunks, and queries are no chunks: alone it was wrong on many queries that the
    nearest chunk places. The two are joined as a weighted geometric mean (a logarithmic opinion pool; Genest
    and Zidek, Statistical Science 1986), each and their sum scaled by a temperature fitted on held-out
    documents (Guo et al., ICML 2017): `linear` and `near` are what they are multiplied by.

    `marks` (n,) say which texts the exemplars are vectors of, and `space` under which fingerprint: who fits
    the next router need not encode these again. Empty: not known.

    Questions lie elsewhere than documents: `queries`, whose domains were given, bring two more opinions, the
    nearest question and the terms, and scales of their own. `documents` and `queries.held` keep what was said
    of held-out texts; from there it is read which domains are taken, and when a text is of none.
    """

    domains: tuple[str, ...]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    exemplars: NDArray[np.float32]
    starts: NDArray[np.int64]
    linear: float = _LINEAR_SHARE
    near: float = (1 - _LINEAR_SHARE) * _SHARPNESS
    marks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    space: str = ""
    documents: Held = field(default_factory=Held)
    queries: KnownQueries = field(default_factory=KnownQueries)

    @classmethod
    def fit(
        cls, vectors: NDArray[np.float32], labels: Sequence[str], *, groups: NDArray[np.int64], seed: int = 0
    ) -> Self:
        """Learn from vectors (n, dim) with their domains; `groups` are document keys, never split.

        Raises:
            UsageError: there is nothing to learn from, or the lengths differ.
        """
        if len(labels) == 0 or not len(labels) == len(vectors) == len(groups):
            raise UsageError(
                f"a router needs one label and one document key per vector, not "
                f"{len(labels)} and {len(groups)} for {len(vectors)} vectors",
                hint="index documents first",
            )
        domains = tuple(sorted(set(labels)))
        if len(domains) == 1:
            one = exemplars_of(vectors[:1], np.zeros(1, np.int64))
            return cls(domains, np.zeros((1, vectors.shape[1])), np.zeros(1), *one)
        places = {domain: place for place, domain in enumerate(domains)}
        targets = np.array([places[label] for label in labels])
        fitted = cls._of(domains, vectors, targets)
        folds = held_out(targets, groups, seed=seed)
        return fitted._tried(vectors, targets, groups, folds=folds) if folds else fitted

    @classmethod
    def _of(cls, domains: tuple[str, ...], vectors: NDArray[np.float32], targets: NDArray[np.int64]) -> Self:
        """A router whose scales are still to be found."""
        rows = first_of_each(targets)
        return cls(domains, *regression(vectors[rows], targets[rows]), *exemplars_of(vectors, targets))

    def asked(self, queries: KnownQueries) -> Self:
        """The same router, fitted to questions whose domains are known, and to no others.

        Questions of domains that the router does not have are left out; below 50 nothing is fitted to them.
        """
        known = queries.among(self.domains)
        if not known.domains:
            return replace(self, queries=KnownQueries())
        fitted = fit_queries(
            known,
            domains=self.domains,
            logits=self.logits(known.vectors),
            near=self.nearest(known.vectors),
            begin=(self.linear, self.near, self.near / 2, 1.0),
        )
        return replace(self, queries=fitted)

    def _tried(
        self,
        vectors: NDArray[np.float32],
        targets: NDArray[np.int64],
        groups: NDArray[np.int64],
        *,
        folds: list[NDArray[np.bool_]],
    ) -> Self:
        """With the scales of routers that did not see the held-out documents, and what these said of them."""
        logits = np.zeros((len(targets), len(self.domains)))
        near = np.zeros_like(logits)
        for held in folds:
            known, seen = vectors[~held], targets[~held]
            trial = self._of(self.domains, known, seen)
            logits[held], near[held] = trial.logits(vectors[held]), trial.nearest(vectors[held])
        rows = np.flatnonzero(np.any(folds, axis=0))
        linear, close = _scales(logits[rows], near[rows], targets[rows])
        firsts = rows[np.unique(groups[rows], return_index=True)[1]]  # a row per document
        scores = linear * logits[firsts] + close * near[firsts]
        return replace(self, linear=linear, near=close, documents=Held.of(scores, targets[firsts]))

    def remembering(self, marks: NDArray[np.int64], labels: Sequence[str], *, space: str) -> Self:
        """The same router, with the marks (n,) of the texts that it was fitted on, as they came."""
        order = np.argsort(np.array([self.domains.index(label) for label in labels]), kind="stable")
        return replace(self, marks=marks[order][: len(self.exemplars)], space=space)

    def logits(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores (n, domains) of the classifier, before scaling and softmax."""
        scores: NDArray[np.float64] = np.atleast_2d(vectors).astype(np.float64) @ self.weights.T + self.bias
        return scores

    def nearest(self, vectors: NDArray[np.float32], *, but_itself: bool = False) -> NDArray[np.float64]:
        """Cosine (n, domains) of the nearest exemplar of each domain; `but_itself`: of those that are not the
        same text.
        """
        texts = np.atleast_2d(vectors).astype(np.float32)
        parts = [texts[at : at + _ROWS] @ self.exemplars.T for at in range(0, len(texts), _ROWS)]
        if but_itself:
            parts = [np.where(part > _SELF, -1.0, part) for part in parts]
        best = [np.maximum.reduceat(part, self.starts, axis=1) for part in parts]
        return np.concatenate(best).astype(np.float64) if best else np.zeros((0, len(self.domains)))

    def scores(
        self, vectors: NDArray[np.float32], texts: Sequence[str] = (), *, of: Kind = Kind.QUERY
    ) -> NDArray[np.float64]:
        """Scores (n, domains), whose softmax are the probabilities.

        `texts` are those of the vectors. A router that knows questions goes by their words, too; without, it
        is less sure.
        """
        logits, near = self.logits(vectors), self.nearest(vectors)
        if of is Kind.DOCUMENT or not self.queries.fitted:
            return self.linear * logits + self.near * near
        said = self.queries.said(np.atleast_2d(vectors), texts or [""] * len(logits), domains=self.domains)
        return self.queries.joined(np.stack([logits, near, *said]))

    def probabilities(
        self, vectors: NDArray[np.float32], texts: Sequence[str] = (), *, of: Kind = Kind.QUERY
    ) -> NDArray[np.float64]:
        """Probabilities (n, domains), by `domains`; each row sums to one. `texts` as in `scores`."""
        return np.exp(log_softmax(self.scores(vectors, texts, of=of)))

    def choose(
        self,
        vector: NDArray[np.float32],
        text: str = "",
        *,
        mass: float | None = None,
        at_most: int | None = None,
        of: Kind = Kind.QUERY,
    ) -> Choice:
        """The domains of a text, by its vector (dim,) and words, why these, and whether it is of none.

        See `router_choice.choose`, which says what `mass` is, and what holds where too little is known.

        Raises:
            UsageError: mass is not in (0, 1], or at_most is below one.
        """
        held = self.documents if of is Kind.DOCUMENT else self.queries.held
        scores = self.scores(vector, [text], of=of)[0]
        return choose(self.domains, scores, held=held, mass=mass, at_most=at_most)

    def route(
        self,
        vector: NDArray[np.float32],
        text: str = "",
        *,
        mass: float | None = None,
        at_most: int | None = None,
        of: Kind = Kind.QUERY,
    ) -> tuple[Route, ...]:
        """The domains that `choose` takes, best first, ties by name.

        Raises:
            UsageError: mass is not in (0, 1], or at_most is below one.
        """
        return self.choose(vector, text, mass=mass, at_most=at_most, of=of).routes

    def renamed(self, old: str, new: str) -> Self:
        """The same router, with another name for a domain."""
        names = tuple(new if name == old else name for name in self.domains)
        return replace(self, domains=names, queries=self.queries.renamed(old, new))

    def save(self, folder: Path) -> str:
        """Write `<folder>/<sha>.safetensors`, whole or not at all; returns the sha256 of its bytes."""
        data = self._to_bytes()
        sha = hashlib.sha256(data).hexdigest()
        with file_faults("store the router"):
            write_atomically(folder / f"{sha}.safetensors", data)
        return sha

    def _to_bytes(self) -> bytes:
        arrays = {
            "weights": self.weights,
            "bias": self.bias,
            "starts": self.starts,
            "scales": np.array([self.linear, self.near]),
            "marks": self.marks,
            "exemplars": self.exemplars.astype(np.float16),
            **packed_held(self.documents, "documents"),
            **packed_queries(self.queries, self.domains),
        }
        return packed(arrays, said={"domains": list(self.domains), "space": self.space})

    @classmethod
    def load(cls, path: Path) -> Router:
        """Read a saved router.

        Raises:
            ChecksumError: the bytes are not those the file is named by.
            ModelError: the file cannot be read as a router.
        """
        from safetensors import SafetensorError

        data = read_checked(path)
        try:
            return cls._from_bytes(data)
        except (SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ModelError(
                f"{path} is not a router: {error}", hint="moeret index fits a new one"
            ) from error

    @classmethod
    def _from_bytes(cls, data: bytes) -> Router:
        arrays, said = unpacked(data)
        domains = tuple(str(domain) for domain in said["domains"])
        linear, near = arrays["scales"].tolist()
        return cls(
            domains,
            arrays["weights"],
            arrays["bias"],
            arrays["exemplars"].astype(np.float32),
            arrays["starts"],
            linear,
            near,
            arrays.get("marks", np.zeros(0, np.int64)),
            str(said.get("space", "")),
            held_from(arrays, "documents"),
            queries_from(arrays, domains),
        )


def _scales(
    logits: NDArray[np.float64], cosines: NDArray[np.float64], targets: NDArray[np.int64]
) -> tuple[float, float]:
    """What logits and cosines must be multiplied by to be as sure as they are right on these."""
    linear = _LINEAR_SHARE / temperature(logits, targets)
    near = (1 - _LINEAR_SHARE) / temperature(cosines, targets)
    joined = temperature(linear * logits + near * cosines, targets)
    return linear / joined, near / joined
