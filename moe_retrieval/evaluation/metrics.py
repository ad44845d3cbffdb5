"""Figures for pairs of texts that belong together or do not, from their cosines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PairMetrics:
    """Metrics of scored pairs.

    `f1_max`: the best F1 over all thresholds, reached by calling a pair positive from `threshold` on, with
    this `precision` and `recall`; `ratio`: |mean score of positives / mean score of negatives|; `roc_auc`:
    chance that a positive pair scores above a negative one; `floor`: F1 of calling every pair positive.
    """

    f1_max: float
    threshold: float
    precision: float
    recall: float
    ratio: float
    roc_auc: float
    floor: float
    pairs: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def pair_metrics(scores: Sequence[float] | NDArray[Any], labels: Sequence[int] | NDArray[Any]) -> PairMetrics:
    """Metrics of pairs with cosines `scores` (n,), cut to [-1, 1], and `labels` (n,), 1 for pairs that belong
    together, 0 for others (Hallee et al., arXiv 2401.15713).

    Raises:
        UsageError: the lengths differ, a score is not finite, or a class is missing.
    """
    from sklearn.metrics import precision_recall_curve, roc_auc_score

    cosines, truth = _checked(scores, labels)
    precision, recall, thresholds = precision_recall_curve(truth, cosines)
    # the last point of the curve has no threshold
    precision, recall = precision[:-1], recall[:-1]
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    best = int(np.argmax(f1))
    positive, negative = float(cosines[truth == 1].mean()), float(cosines[truth == 0].mean())
    share = truth.mean()
    return PairMetrics(
        f1_max=float(f1[best]),
        threshold=float(thresholds[best]),
        precision=float(precision[best]),
        recall=float(recall[best]),
        ratio=abs(positive / negative) if negative else float("inf"),
        roc_auc=float(roc_auc_score(truth, cosines)),
        floor=float(2 * share / (1 + share)),
        pairs=len(truth),
    )


def _checked(
    scores: Sequence[float] | NDArray[Any], labels: Sequence[int] | NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    cosines, truth = np.asarray(scores, np.float64), np.asarray(labels)
    if cosines.ndim != 1 or cosines.shape != truth.shape or not len(truth):
        raise UsageError(
            f"{cosines.shape} scores do not fit {truth.shape} labels", hint="give one label per score"
        )
    if not np.isfinite(cosines).all():
        place = int(np.flatnonzero(~np.isfinite(cosines))[0])
        raise UsageError(f"score {place} is not finite", hint="check the encoder's vectors")
    if set(np.unique(truth).tolist()) != {0, 1}:
        raise UsageError("labels must be 0 and 1, and both must occur", hint="add pairs of the other kind")
    return np.clip(cosines, -1, 1), truth.astype(np.int64)
