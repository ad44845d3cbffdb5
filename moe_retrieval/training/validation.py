"""How good an encoder is on validation pairs: what a training is steered by, and what its gate decides by."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.evaluation.rankings import quick_ndcg, rank_documents

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from moe_retrieval.corpus.pairs import Pair

    Embed = Callable[[Sequence[str], str, str], NDArray[np.float32]]
    """Texts, their domain, and QUERY or DOCUMENT in; unit vectors (n, dim) out."""

    Scores = Mapping[str, NDArray[np.float64]]
    """nDCG@10 of each query, by domain."""

K = 10
QUERY, DOCUMENT = "query", "document"
"""The two sides of a pair: a asks, b is found. A model may put a prompt of its own before each."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """A small retrieval task of one domain: each query finds its own among all candidates but itself."""

    queries: tuple[str, ...]
    candidates: tuple[str, ...]
    relevant: tuple[frozenset[int], ...]

    def ndcg(self, queries: NDArray[np.float32], candidates: NDArray[np.float32]) -> NDArray[np.float64]:
        """nDCG@10 of each query, from unit vectors of queries and of candidates."""
        places, _ = rank_documents(queries, candidates, k=min(K + 1, len(self.candidates)))
        return quick_ndcg(self._without_themselves(places), self.relevant)

    def _without_themselves(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rankings less each query's own text, which may answer another: it would always be first."""
        numbers = {text: place for place, text in enumerate(self.candidates)}
        kept = np.full_like(places, -1)
        for row, query in enumerate(self.queries):
            others = places[row][places[row] != numbers.get(query, -1)]
            kept[row, : len(others)] = others
        return kept


class Validation:
    """The tasks of several domains, made of their pairs of label 1."""

    def __init__(self, tasks: Mapping[str, Ranking]) -> None:
        self.tasks = dict(tasks)

    @classmethod
    def of(cls, pairs: Sequence[Pair], *, queries: int = 400, seed: int = 0) -> Validation:
        """One task per domain: distinct a are queries, at most `queries` of them, drawn by seed.

        Candidates are all that belongs to any of them; a candidate that asks in a pair answers there, too.
        """
        by_domain: dict[str, list[Pair]] = defaultdict(list)
        for pair in pairs:
            if pair.label == 1:
                by_domain[pair.domain].append(pair)
        return cls({domain: _task(own, queries, seed) for domain, own in sorted(by_domain.items())})

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self.tasks)

    def scores(self, embed: Embed) -> dict[str, NDArray[np.float64]]:
        """nDCG@10 of each query, by domain."""
        return {
            domain: task.ndcg(embed(task.queries, domain, QUERY), embed(task.candidates, domain, DOCUMENT))
            for domain, task in self.tasks.items()
        }


def macro(scores: Scores) -> float:
    """The mean over the domains of their mean."""
    return float(np.mean([own.mean() for own in scores.values()]))


def _task(pairs: Sequence[Pair], limit: int, seed: int) -> Ranking:
    answers: dict[str, set[str]] = defaultdict(set)
    belongs: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        if pair.a != pair.b:
            answers[pair.a].add(pair.b)
            belongs[pair.a].add(pair.b)
            belongs[pair.b].add(pair.a)
    asked = sorted(answers)
    random.Random(seed).shuffle(asked)  # noqa: S311 - a draw, not a secret
    asked = sorted(asked[:limit])
    candidates = sorted({text for query in asked for text in answers[query]})
    places = {text: place for place, text in enumerate(candidates)}
    relevant = tuple(frozenset(places[text] for text in belongs[query] if text in places) for query in asked)
    return Ranking(tuple(asked), tuple(candidates), relevant)
