"""What the words of questions, and how they follow each other, say of their domains."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from moe_retrieval.router_fitting import folds, regression

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_WORD = re.compile(r"\w+|[^\w\s]")
_BUCKETS = 2**14
"""A term is known by its hash, as questions may be private. More buckets were worse: docs/routing.md."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of n texts, hashed: text i has `buckets[starts[i] : starts[i + 1]]`, each `counts` times.

    Terms are words and marks in small letters, and pairs of neighbours: how one asks tells much, too.
    """

    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    buckets: NDArray[np.uint16] = field(default_factory=lambda: np.zeros(0, np.uint16))
    counts: NDArray[np.uint16] = field(default_factory=lambda: np.zeros(0, np.uint16))

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        found = [_hashed(text) for text in texts]
        lengths = [len(buckets) for buckets, _counts in found]
        return cls(
            np.cumsum([0, *lengths]),
            np.concatenate([np.zeros(0, np.uint16), *(buckets for buckets, _counts in found)]),
            np.concatenate([np.zeros(0, np.uint16), *(counts for _buckets, counts in found)]),
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def alike(self) -> NDArray[np.int64]:
        """A number (n,) per text, the same for the same terms."""
        seen: dict[bytes, int] = {}
        terms = (self.buckets[begin:end].tobytes() for begin, end in pairwise(self.starts))
        return np.array([seen.setdefault(one, len(seen)) for one in terms], np.int64)

    def take(self, places: Sequence[int]) -> Terms:
        """Those texts."""
        kept = np.concatenate(
            [np.zeros(0, np.int64), *(np.arange(self.starts[at], self.starts[at + 1]) for at in places)]
        )
        lengths = [self.starts[at + 1] - self.starts[at] for at in places]
        return Terms(np.cumsum([0, *lengths]), self.buckets[kept], self.counts[kept])


@dataclass(frozen=True, slots=True)
class TermClassifier:
    """A linear classifier over the terms of questions, weighted by TF-IDF.

    It knows terms by `buckets` (u,), ascending: those of two questions or more. `weights` (u,) are their
    inverse document frequencies, `coefficients` (u, domains) and `bias` (domains,) give logits. `tried` (n,
    domains) are the logits of the questions themselves, by classifiers that had not seen them; zeros where
    these would not have known all domains.
    """

    domains: tuple[str, ...]
    buckets: NDArray[np.int64]
    weights: NDArray[np.float64]
    coefficients: NDArray[np.float32]
    bias: NDArray[np.float64]
    tried: NDArray[np.float32]

    @classmethod
    def fit(cls, terms: Terms, labels: Sequence[str]) -> Self | None:
        """Learn from questions of two domains or more; each is tried on a classifier that had not seen it.

        None: no term is in two of them.
        """
        domains = tuple(sorted(set(labels)))
        targets = np.array([domains.index(label) for label in labels])
        known, seen = np.unique(terms.buckets, return_counts=True)
        buckets, seen = known[seen > 1].astype(np.int64), seen[seen > 1]
        if not len(buckets):
            return None
        weights = np.log((1 + len(terms)) / (1 + seen)) + 1
        features = _features(terms, buckets, weights)
        tried = np.zeros((len(labels), len(domains)), np.float32)
        of = folds(targets, terms.alike())
        for fold in np.unique(of[of >= 0]):
            held = of == fold
            if len(np.unique(targets[~held])) == len(domains):  # else it holds all there is of one of them
                coefficients, bias = regression(features[~held], targets[~held])
                tried[held] = features[held] @ coefficients.T + bias
        coefficients, bias = regression(features, targets)
        rounded = coefficients.T.astype(np.float16).astype(np.float32)  # as precise as they are saved
        return cls(domains, buckets, weights, rounded, bias, tried)

    def logits(self, terms: Terms) -> NDArray[np.float64]:
        """Scores (n, domains) of texts, before scaling and softmax."""
        rows, places, values = _entries(terms, self.buckets, self.weights)
        found = np.tile(self.bias, (len(terms), 1))
        np.add.at(found, rows, self.coefficients[places] * values[:, None])
        return found

    def renamed(self, old: str, new: str) -> TermClassifier:
        """The same, with another name for a domain."""
        return replace(self, domains=tuple(new if name == old else name for name in self.domains))


def _hashed(text: str) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Ascending buckets and how many terms fell into each."""
    words = _WORD.findall(text.lower())
    terms = words + [" ".join(pair) for pair in pairwise(words)]
    hashes = [zlib.crc32(term.encode(errors="surrogatepass")) % _BUCKETS for term in terms]
    buckets, counts = np.unique(np.array(hashes, np.uint16), return_counts=True)
    return buckets, np.minimum(counts, np.iinfo(np.uint16).max).astype(np.uint16)


def _features(terms: Terms, buckets: NDArray[np.int64], weights: NDArray[np.float64]) -> Any:
    """The sparse matrix (n, u) of `_entries`."""
    from scipy.sparse import csr_matrix

    rows, places, values = _entries(terms, buckets, weights)
    return csr_matrix((values, (rows, places)), shape=(len(terms), len(buckets)))


def _entries(
    terms: Terms, buckets: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows, columns and values of unit vectors (n, u): 1 + log count of a term, times its weight (sublinear
    TF-IDF).
    """
    rows = np.repeat(np.arange(len(terms)), np.diff(terms.starts))
    places = np.minimum(np.searchsorted(buckets, terms.buckets), len(buckets) - 1)
    known = buckets[places] == terms.buckets
    rows, places = rows[known], places[known]
    values = (1 + np.log(terms.counts[known])) * weights[places]
    lengths = np.sqrt(np.bincount(rows, values**2, minlength=len(terms)))
    return rows, places, values / lengths[rows]
