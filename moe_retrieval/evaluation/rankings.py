"""Exact rankings of documents, and the figures by which rankings are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    Run = Mapping[str, Mapping[str, float]]
    Judged = Mapping[str, Mapping[str, int]]

_AT_ONCE = 16_000_000
"""Scores that are held in memory at once."""


@dataclass(frozen=True, slots=True)
class RankingMetrics:
    """Means over all judged queries; a query without an answer counts 0 (as trec_eval -c)."""

    ndcg_10: float
    recall_10: float
    recall_100: float
    mrr_10: float
    map_100: float
    queries: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


MEASURES = ("ndcg_10", "recall_10", "recall_100", "mrr_10", "map_100")
"""The measures of `per_query`: the fields of `RankingMetrics` that are means."""


def rank_documents(
    queries: NDArray[np.float32], documents: NDArray[np.float32], *, k: int = 100, block: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `k` best documents of each query by dot product, ties by position: positions and scores (n, k).

    Every document is compared; fewer than `k` documents are ranked all. `block`: queries that are ranked at
    once; 0: what memory allows.

    Raises:
        UsageError: k is below 1, there are no documents, or the widths differ.
    """
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}", hint="10 and 100 are usual")
    if not len(documents) or queries.ndim != 2 or queries.shape[1] != documents.shape[1]:
        raise UsageError(
            f"queries {queries.shape} cannot be ranked against documents {documents.shape}",
            hint="give vectors (n, dim) of one encoder",
        )
    kept = min(k, len(documents))
    step = block or max(1, _AT_ONCE // len(documents))
    positions = np.empty((len(queries), kept), np.int64)
    scores = np.empty((len(queries), kept), np.float32)
    for start in range(0, len(queries), step):
        found = queries[start : start + step] @ documents.T  # (block, documents)
        for row, own in enumerate(found, start=start):
            positions[row] = _best(own, kept)
            scores[row] = own[positions[row]]
    return positions, scores


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Positions of the k largest, the largest first, ties by position."""
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= least)
    else:
        candidates = np.arange(len(scores))
    order = np.argsort(-scores[candidates], kind="stable")[:k]
    return candidates[order]


def quick_ndcg(
    positions: NDArray[np.int64],
    relevant: Sequence[Collection[int] | Mapping[int, float]],
    *,
    k: int = 10,
) -> NDArray[np.float64]:
    """nDCG@k of each query, (n,), as trec_eval computes it, without any package.

    `positions` (n, at least k, where there are as many documents): ranked documents. `relevant`: for each
    query the positions that are relevant, or a grade for each of them; a query without any counts 0.

    Raises:
        UsageError: not every query has its relevant documents.
    """
    if len(positions) != len(relevant):
        raise UsageError(
            f"{len(positions)} rankings do not fit {len(relevant)} judgements", hint="give one for each query"
        )
    discounts = 1 / np.log2(np.arange(2, k + 2))
    found = np.zeros(len(positions))
    for row, (ranked, judged) in enumerate(zip(positions[:, :k], relevant, strict=True)):
        grades = judged if isinstance(judged, Mapping) else dict.fromkeys(judged, 1.0)
        ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:k]
        if ideal:
            gains = [max(grades.get(int(one), 0.0), 0.0) for one in ranked]
            found[row] = gains @ discounts[: len(gains)] / (ideal @ discounts[: len(ideal)])
    return found


def per_query(run: Run, qrels: Judged) -> dict[str, dict[str, float]]:
    """Measure -> query id -> value, by trec_eval, for every query of `qrels`; those not in the run count 0.

    Measures are `MEASURES`: nDCG@10 (linear gain), Recall@10, Recall@100, RR@10, AP@100. Documents with a
    grade of 1 and more are relevant; ties of scores are broken by document id, as trec_eval does.

    Raises:
        UsageError: nothing is judged.
        MissingExtraError: ir_measures is not installed.
    """
    if not qrels:
        raise UsageError("no query is judged", hint="give qrels with at least one judgement")
    try:
        import ir_measures
        from ir_measures import AP, RR, R, nDCG
    except ImportError as error:
        raise MissingExtraError("ir-measures", extra="train", purpose="judging rankings") from error
    names = {
        nDCG @ 10: "ndcg_10",
        R @ 10: "recall_10",
        R @ 100: "recall_100",
        RR: "mrr_10",
        AP @ 100: "map_100",
    }
    values = {name: dict.fromkeys(qrels, 0.0) for name in MEASURES}
    judged = {query: dict(grades) for query, grades in qrels.items()}
    ranked = {
        query: {name: float(score) for name, score in run[query].items()}
        for query in judged
        if run.get(query)
    }
    for one in ir_measures.pytrec_eval.iter_calc(list(names), judged, ranked):
        values[names[one.measure]][one.query_id] = float(one.value)
    # trec_eval knows no cutoff of the reciprocal rank: one below 1/10 is of a place after the tenth
    values["mrr_10"] = {
        query: value if value > 1 / 10.5 else 0.0 for query, value in values["mrr_10"].items()
    }
    return values


def ranking_metrics(run: Run, qrels: Judged) -> RankingMetrics:
    """The means of `per_query`.

    Raises:
        UsageError: nothing is judged.
        MissingExtraError: ir_measures is not installed.
    """
    return mean_metrics(per_query(run, qrels))


def mean_metrics(values: Mapping[str, Mapping[str, float]]) -> RankingMetrics:
    """Means of what `per_query` gave."""
    means = {name: float(np.mean(list(values[name].values()))) for name in MEASURES}
    return RankingMetrics(**means, queries=len(values[MEASURES[0]]))
