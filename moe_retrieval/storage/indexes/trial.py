"""Measure a search on a table's own vectors: its recall against exact search, and its time per query."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.storage.engine import engine_faults, faiss
from moe_retrieval.storage.indexes import exact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from moe_retrieval.storage.found import Found
    from moe_retrieval.storage.tables.view import TableView

    Setting = dict[str, int]
    Search = Callable[[np.ndarray, int], np.ndarray]
    """A query, float32 (1, dim), and a number; so many keys (int64) come back, the best first."""

TOP = 10
_QUERIES = 200
_DEEP = 64
_SAMPLE = 20_000


@dataclass(frozen=True, slots=True)
class Score:
    """What a setting reached: recall@10, and the median of milliseconds per query."""

    setting: Mapping[str, int]
    recall: float
    ms: float

    def beats(self, other: Score, *, recall: float) -> bool:
        """The faster one of those that reach the recall wanted; else the one that comes nearest to it."""
        if min(self.recall, other.recall) >= recall:
            return self.ms < other.ms
        return self.recall > other.recall


@dataclass(frozen=True, slots=True)
class Trial:
    """Stored vectors as queries, with their true neighbours."""

    own: np.ndarray  # int64 (queries): the key of each query's own row
    queries: np.ndarray  # float32 (queries, dim)
    truth: Sequence[Found]

    @classmethod
    def of(cls, view: TableView, *, queries: int = _QUERIES) -> Trial:
        """Queries drawn from the rows of a view; the table is read once for their neighbours."""
        size = min(queries, view.rows)
        offsets = np.sort(np.random.default_rng(1).choice(view.rows, size=size, replace=False))
        rows = view.take(offsets, columns=["key"])
        vectors = view.vectors(offsets)
        return cls(rows["key"].to_numpy(), vectors, exact.search_all(view, vectors, k=_DEEP))

    def score(self, search: Search, setting: Mapping[str, int] | None = None) -> Score:
        """Recall and time of a search, one query at a time."""
        shares, seconds = [], []
        for query, truth, own in zip(self.queries, self.truth, self.own, strict=True):
            begun = time.perf_counter()
            found = search(query[None], TOP + 1)
            seconds.append(time.perf_counter() - begun)
            shares.append(share(found, truth, own=own))
        ms = 1000 * float(np.median(seconds)) if seconds else 0.0
        return Score(setting or {}, float(np.mean(shares)) if shares else 1.0, ms)

    def tune(
        self, search: Callable[[Setting], Search], ladders: Sequence[Sequence[Setting]], *, recall: float
    ) -> Score:
        """The fastest setting that reaches the recall, or the one that comes nearest.

        On each ladder the least effort that reaches it is sought by halving: recall grows with effort.
        """
        best = Score({}, -1.0, 0.0)
        for ladder in ladders:
            low, high = 0, len(ladder)
            while low < high:
                middle = (low + high) // 2
                found = self.score(search(ladder[middle]), ladder[middle])
                if found.beats(best, recall=recall):
                    best = found
                low, high = (low, middle) if found.recall >= recall else (middle + 1, high)
        return best

    def ceiling(self, view: TableView, codec: str) -> float:
        """The recall that vectors compressed by `codec` allow: a quick look before a long build.

        Only the 64 nearest of each query are compressed. Where the last of them is nearer to the tenth than
        the blur is wide, others could come among the best as well: such a query counts as missed.
        """
        near = _vectors_of(view, np.concatenate([one.keys for one in self.truth]))
        sample = np.random.default_rng(2).choice(view.rows, min(_SAMPLE, view.rows), replace=False)
        with engine_faults(f"try codec {codec}"):
            coder = faiss().index_factory(view.dim, codec, faiss().METRIC_INNER_PRODUCT)
            coder.train(view.vectors(np.sort(sample)))
            blurred = coder.sa_decode(coder.sa_encode(near))
        ends = np.cumsum([len(one.keys) for one in self.truth])[:-1]
        scores = [rows @ query for rows, query in zip(np.split(blurred, ends), self.queries, strict=True)]
        parts = zip(scores, self.truth, self.own, strict=True)
        return float(np.mean([_kept(row, truth, own=own, of=view.rows) for row, truth, own in parts]))


def share(found: np.ndarray, truth: Found, *, own: int) -> float:
    """Share of the ten nearest that were found, the query's own row left out; equals of the tenth count."""
    others = truth.keys != own
    keys, scores = truth.keys[others], truth.scores[others]
    if not len(keys):
        return 1.0
    good = keys[scores >= scores[min(TOP, len(keys)) - 1] - 1e-6]
    hits = np.isin(found[found != own][:TOP], good).sum()
    return float(min(hits, TOP) / min(TOP, len(keys)))


def _kept(blurred: np.ndarray, truth: Found, *, own: int, of: int) -> float:
    """Share of the ten nearest that blurred scores of the nearest leave among the ten best."""
    blur = 2 * float(np.std(blurred - truth.scores))
    if TOP < len(truth.keys) < of and truth.scores[TOP] - truth.scores[-1] < blur:
        return 0.0
    return share(truth.keys[np.argsort(-blurred)], truth, own=own)


def _vectors_of(view: TableView, keys: np.ndarray) -> np.ndarray:
    """Vectors of rows by their keys, which may come again and again."""
    every, _ = view.key_vh()
    order = np.argsort(every, kind="stable")
    offsets = order[np.searchsorted(every, keys, sorter=order)]
    wanted, at = np.unique(offsets, return_inverse=True)
    return np.ascontiguousarray(view.vectors(wanted)[at])
