"""Scores of one list between 0 and 1, whatever made them, and hits with another score than they had."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moe_retrieval.types import Hit


def unit(scores: Sequence[float]) -> NDArray[np.float64]:
    """Scores (n,) from the list's last (0) to its best (1); all 1 where they are equal."""
    array = np.asarray(scores, np.float64)
    span = np.ptp(array) if len(array) else 0.0
    return (array - array.min()) / span if span > 0 else np.ones(len(array))


def rescored(hit: Hit, score: float) -> Hit:
    """The hit under another score; the one that the searches gave it stays in `why.fused_score`."""
    before = hit.score if hit.why.fused_score is None else hit.why.fused_score
    return replace(hit, score=score, why=replace(hit.why, fused_score=before))
