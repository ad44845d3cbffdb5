"""Measures with their intervals: of one domain, and over domains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.intervals import Interval, bootstrap_counts, difference_test, interval_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from moe_retrieval.evaluation.intervals import PairedTest


@dataclass(frozen=True, slots=True)
class Figures:
    """Measures of `count` pairs or queries, each with its interval (NaN, where there is one item only).

    `items`: what was resampled, pairs, queries or groups of queries; `drawn` (samples, measures): the
    measures in each resample. Systems judged on the same items see the same resamples: they can be compared.
    """

    measures: Mapping[str, Interval]
    count: int
    items: int
    drawn: NDArray[np.float64] = field(repr=False, compare=False)

    def __getitem__(self, measure: str) -> Interval:
        return self.measures[measure]

    def to_dict(self) -> dict[str, Any]:
        return {"count": self.count} | {name: one.to_dict() for name, one in self.measures.items()}


def figures_of(
    names: Sequence[str], found: NDArray[np.float64], drawn: NDArray[np.float64], *, count: int, items: int
) -> Figures:
    """Figures from their values, `found` (measures,), and those in resamples, `drawn` (samples, measures)."""
    known = drawn if items > 1 else np.full_like(drawn, np.nan)
    measures = {name: _interval(float(found[at]), known[:, at]) for at, name in enumerate(names)}
    return Figures(measures, count, items, drawn)


def mean_figures(
    names: Sequence[str],
    items: NDArray[np.float64],
    *,
    count: int,
    samples: int,
    seed: int | Sequence[int],
) -> Figures:
    """Means of `items` (n, measures), which are resampled as a whole."""

    def means(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        return counts @ items / len(items)  # (resamples, measures)

    drawn = bootstrap_counts(means, len(items), samples=samples, seed=seed)
    return figures_of(names, items.mean(axis=0), drawn, count=count, items=len(items))


def over_domains(parts: Sequence[Figures], *, weighted: bool = False) -> Figures:
    """The mean of the domains' figures, each domain resampled by itself; `weighted`: by their counts."""
    weights = np.array([part.count if weighted else 1 for part in parts], np.float64)
    weights /= weights.sum()
    names = list(parts[0].measures)
    found = weights @ np.array([[part[name].mean for name in names] for part in parts])
    drawn = np.tensordot(weights, np.stack([part.drawn for part in parts]), axes=1)
    count, items = sum(part.count for part in parts), sum(part.items for part in parts)
    return figures_of(names, found, drawn, count=count, items=items)


def paired_test(ours: Figures, theirs: Figures, measure: str) -> PairedTest:
    """Whether a measure of `ours` differs from that of `theirs`, by the resamples that both have seen.

    Raises:
        UsageError: they were not judged on the same items, or on fewer than two.
    """
    if (ours.count, ours.items) != (theirs.count, theirs.items) or ours.drawn.shape != theirs.drawn.shape:
        raise UsageError("figures of different items cannot be compared", hint="judge both on the same data")
    if ours.items < 2:
        raise UsageError("a paired test needs two items at least", hint="give more queries or pairs")
    at = list(ours.measures).index(measure)
    found = ours[measure].mean - theirs[measure].mean
    return difference_test(found, ours.drawn[:, at] - theirs.drawn[:, at], n=ours.items)


def _interval(found: float, drawn: NDArray[np.float64]) -> Interval:
    """As `interval_of`; of a figure that no resample has, as the ratio to a mean of zero, NaN."""
    if not np.isfinite(drawn).any():
        return Interval(found, float("nan"), float("nan"))
    return interval_of(found, drawn)
