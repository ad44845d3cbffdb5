"""What judged queries speak for: how a hybrid score is made, and what a cosine is worth in each domain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.calibration import DomainCalibration, Tuning
from moe_retrieval.tuning.weights import WAYS, choose
from moe_retrieval.types import Fusing, Within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_retrieval.tuning.searches import SearchedQuery
    from moe_retrieval.tuning.weights import Values

RELEVANT = 20
"""Relevant chunks that the calibration of a domain is fitted on, at least."""

DEPTH = 50
"""Candidates of a query that a calibration is fitted on, in every domain."""


def values_of(searched: Sequence[SearchedQuery]) -> Values:
    """nDCG@10 of every query under each of `WAYS`, (queries, ways)."""
    fusings = [Fusing(within=way.within, weight=way.weight) for way in WAYS]
    return np.array([[one.ndcg(fusing=fusing) for fusing in fusings] for one in searched])


def chosen_tuning(searched: Sequence[SearchedQuery], *, source: str = "", seed: int = 0) -> Tuning:
    """The tuning that judged queries speak for; see `weights.choose`."""
    choice = choose(values_of(searched), [one.query.domain for one in searched], seed=seed)
    best = WAYS[choice.store]
    weighted = best.within is Within.WEIGHTED
    return Tuning(
        weight=best.weight if weighted else None,
        weights={name: WAYS[at].weight for name, at in choice.domains.items() if at != choice.store},
        within=best.within,
        source=source,
        queries=len(searched),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def fit_calibrations(
    searched: Sequence[SearchedQuery], *, space: Callable[[str], str]
) -> dict[str, DomainCalibration]:
    """A calibration for each domain that has enough relevant chunks among the candidates of queries that name
    it; `space` gives the fingerprint of a domain's vectors.
    """
    found: dict[str, DomainCalibration] = {}
    for domain in sorted({one.query.domain for one in searched} - {""}):
        own = [one.judged_cosines(domain, depth=DEPTH) for one in searched if one.query.domain == domain]
        scores, relevant = (np.concatenate(part) for part in zip(*own, strict=True))
        if relevant.sum() < RELEVANT or relevant.all():
            continue
        if scores[relevant].mean() > scores[~relevant].mean():
            found[domain] = DomainCalibration.fit(scores, relevant, fingerprint=space(domain))
    return found
