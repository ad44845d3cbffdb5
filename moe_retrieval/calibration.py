"""What a cosine is worth: per domain a map to the probability of relevance, and what was tuned on queries."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from moe_retrieval.errors import UsageError
from moe_retrieval.types import Within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SHARED_SLOPE = 5.1
SHARED_INTERCEPT = -5.1
"""Without judged queries: log-odds of relevance at the cosine of a domain's unrelated texts (the intercept),
and what is added on the way from there to that of nearest neighbours. Fitted to the validation queries of
benchmarks/mixed.py, whatever their domain.
"""

_STEPS = 100
_LONGEST = 2.0  # of a step of Newton's method, which else may leap away where classes barely overlap
_RIDGE = 1e-6
_SMALLEST = 1e-6  # a deviation of cosines below this is rounding


class Basis(StrEnum):
    """What a calibration was fitted on: judged pairs, or the domain's own texts."""

    JUDGED = "judged"
    STATISTICS = "statistics"


@dataclass(frozen=True, slots=True)
class DomainCalibration:
    """Probability that a chunk is relevant, given its cosine in one domain: `1 / (1 + exp(-(slope * cosine +
    intercept)))`.

    `slope` is above 0, so the map keeps the order. `fingerprint` says of which vectors it is; `digest` of
    which rows, where it was fitted on them; `samples` how many scores it was fitted on.
    """

    slope: float
    intercept: float
    fingerprint: str = ""
    basis: Basis = Basis.JUDGED
    samples: int = 0
    digest: str = ""

    @classmethod
    def fit(cls, scores: NDArray[Any], relevant: NDArray[Any], *, fingerprint: str = "") -> Self:
        """The likeliest map for scores (n,) of which `relevant` (n,) says whether they were of a relevant
        chunk: those of the candidates of judged queries, equally deep in every domain.

        Platt, "Probabilistic outputs for support vector machines", 1999: with his smoothed targets.

        Raises:
            UsageError: the scores are of one kind only, or the relevant ones are not higher.
        """
        hits = np.asarray(relevant, bool)
        values = np.asarray(scores, np.float64)
        if len(values) != len(hits) or not 0 < hits.sum() < len(hits):
            raise UsageError(
                f"a calibration needs scores of relevant and of other chunks, not {int(hits.sum())} relevant "
                f"ones among {len(values)}",
                hint="judge more queries of this domain",
            )
        slope, intercept = _platt(values, hits)
        if not slope > 0:
            raise UsageError(
                "the relevant chunks do not have higher cosines than the others, so these say nothing",
                hint="judge more queries of this domain, or look at its judgements",
            )
        return cls(slope, intercept, fingerprint, Basis.JUDGED, len(values))

    @classmethod
    def from_statistics(cls, cosines: NDArray[Any], *, fingerprint: str = "", digest: str = "") -> Self:
        """A map for a domain without judged queries.

        `cosines` (n, m): of each of n texts of the domain with m of its chunks; not a number where both are
        of one document. Two marks are taken: the mean cosine, that of unrelated texts, and the
        mean of each text's nearest. Experts share the curve between the two.

        Raises:
            UsageError: a text has nothing to compare, or all cosines are the same.
        """
        values = np.asarray(cosines, np.float64)
        if not values.size or bool(np.isnan(values).all(axis=1).any()):
            raise UsageError(
                "the texts of a domain are too few to say what a cosine is worth there",
                hint="index more documents",
            )
        unrelated, nearest = float(np.nanmean(values)), float(np.nanmax(values, axis=1).mean())
        if not nearest - unrelated > _SMALLEST:
            raise UsageError(
                "the texts of a domain are too alike to say what a cosine is worth there",
                hint="index other documents, too",
            )
        slope = SHARED_SLOPE / (nearest - unrelated)
        intercept = SHARED_INTERCEPT - slope * unrelated
        samples = int((~np.isnan(values)).sum())
        return cls(slope, intercept, fingerprint, Basis.STATISTICS, samples, digest)

    def log_odds(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Log-odds of relevance, of cosines of any shape."""
        return self.slope * np.asarray(scores, np.float64) + self.intercept

    def probability(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Probability of relevance, of cosines of any shape; grows with the cosine."""
        return np.exp(-np.logaddexp(0.0, -self.log_odds(scores)))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """As `to_dict` gave it; fields of later versions are passed over."""
        known = _known(cls, values)
        return cls(**known | {"basis": Basis(known.get("basis", Basis.JUDGED))})


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a store's lists are joined, chosen on judged queries.

    `weight`: that of the vector search in a hybrid score, for the whole store; `weights` by domain go before
    it. None, and a domain left out: the default. `source`: the queries' folder, by name; `queries`: how many
    it was chosen on; `created`: when; `gain`: nDCG@10 won on held-out queries, with the ends of its 95%
    interval.
    """

    weight: float | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    within: Within | None = None
    source: str = ""
    queries: int = 0
    created: str = ""
    gain: tuple[float, float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """As `to_dict` gave it, also through JSON; of an empty one, nothing is tuned."""
        known = _known(cls, values)
        if known.get("within") is not None:
            known["within"] = Within(known["within"])
        if known.get("gain") is not None:
            known["gain"] = tuple(known["gain"])
        return cls(**known)


def _known(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    names = {part.name for part in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _platt(scores: NDArray[np.float64], relevant: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of the likeliest logistic curve, by Newton's method on standardised scores."""
    centre, spread = float(scores.mean()), float(scores.std())
    if not spread > _SMALLEST:
        return 0.0, 0.0
    rows = np.column_stack([(scores - centre) / spread, np.ones(len(scores))])  # (n, 2)
    many, few = int((~relevant).sum()), int(relevant.sum())
    targets = np.where(relevant, (few + 1) / (few + 2), 1 / (many + 2))
    curve = np.array([0.0, np.log((few + 1) / (many + 1))])
    for _ in range(_STEPS):
        chances = np.exp(-np.logaddexp(0.0, -rows @ curve))
        slack = rows.T @ (targets - chances) - _RIDGE * curve * (1, 0)
        bend = (rows * (chances * (1 - chances))[:, None]).T @ rows + np.diag([_RIDGE, _RIDGE])
        step = np.linalg.solve(bend, slack)
        curve = curve + step * min(1.0, _LONGEST / float(np.abs(step).max() or 1.0))
        if float(np.abs(step).max()) < _SMALLEST:
            break
    slope = float(curve[0]) / spread
    return slope, float(curve[1]) - slope * centre
