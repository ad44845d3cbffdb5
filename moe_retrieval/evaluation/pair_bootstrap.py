"""The measures of scored pairs in many resamples at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.evaluation.figures import Figures, figures_of
from moe_retrieval.evaluation.intervals import bootstrap_counts
from moe_retrieval.evaluation.metrics import pair_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PAIR_MEASURES = ("f1_max", "threshold", "precision", "recall", "ratio", "roc_auc", "floor")
"""The measures of `PairMetrics`, in this order."""


def pair_figures(
    scores: NDArray[np.float64], labels: NDArray[np.int64], *, samples: int, seed: int | Sequence[int]
) -> Figures:
    """`pair_metrics` of scores (n,) and labels (n,), each measure with its interval.

    Raises:
        UsageError: as `pair_metrics`.
    """
    said = pair_metrics(scores, labels).to_dict()
    found = np.array([said[name] for name in PAIR_MEASURES])
    drawn = resampled_measures(scores, labels, samples=samples, seed=seed)
    return figures_of(PAIR_MEASURES, found, drawn, count=len(labels), items=len(labels))


def resampled_measures(
    scores: NDArray[np.float64], labels: NDArray[np.int64], *, samples: int, seed: int | Sequence[int]
) -> NDArray[np.float64]:
    """`PAIR_MEASURES` of resampled pairs, (samples, measures); NaN where a resample has one label only."""
    order = np.argsort(-scores, kind="stable")  # from the best score down
    ranked = _Ranked(np.clip(scores[order], -1, 1), labels[order])
    return bootstrap_counts(
        lambda counts: ranked.measures(counts[:, order]), len(scores), samples=samples, seed=seed
    )


class _Ranked:
    """Pairs from the best score down; `ends`: the last place of each score, for equal ones fall together."""

    def __init__(self, cosines: NDArray[np.float64], truth: NDArray[np.int64]) -> None:
        self.cosines, self.truth = cosines, truth
        self.ends = np.flatnonzero(np.append(np.diff(cosines) != 0, True))

    def measures(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """From how often each pair was drawn, (resamples, n), to (resamples, measures)."""
        hits = np.cumsum(counts * self.truth, axis=1)[:, self.ends]  # (resamples, scores)
        called = np.cumsum(counts, axis=1)[:, self.ends]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            best = self._best(hits, called)
            ratio, auc = self._ratio(counts), _auc(hits, called)
            share = hits[:, -1] / called[:, -1]
            found = np.column_stack([*best, ratio, auc, 2 * share / (1 + share)])
        found[(share == 0) | (share == 1)] = np.nan
        return found

    def _best(self, hits: NDArray[np.int64], called: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
        """F1max, threshold, precision and recall, (resamples,) each."""
        positives = hits[:, -1:]
        f1 = 2 * hits / (called + positives)
        f1[np.diff(called, prepend=0, axis=1) == 0] = -1.0  # no pair of this score was drawn
        last = f1.shape[1] - 1 - np.argmax(f1[:, ::-1], axis=1)  # of equal ones the lowest threshold
        rows = np.arange(len(f1))
        threshold = self.cosines[self.ends][last]
        right = hits[rows, last]
        return f1[rows, last], threshold, right / called[rows, last], right / positives[:, 0]

    def _ratio(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        positive = counts @ (self.cosines * self.truth) / (counts @ self.truth)
        negative = counts @ (self.cosines * (1 - self.truth)) / (counts @ (1 - self.truth))
        return np.abs(positive / negative)


def _auc(hits: NDArray[np.int64], called: NDArray[np.int64]) -> NDArray[np.float64]:
    """Area under the ROC curve, (resamples,): negatives below positives, equal scores for a half."""
    before = np.diff(hits, prepend=0, axis=1) / 2
    misses = np.diff(called - hits, prepend=0, axis=1)
    above = (misses * (hits - before)).sum(axis=1)
    positives = hits[:, -1]
    area: NDArray[np.float64] = above / (positives * (called[:, -1] - positives))
    return area
