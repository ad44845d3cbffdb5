"""How sure a figure is: bootstrap intervals, and paired tests between two systems."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Values = Sequence[float] | NDArray[Any]

_SIDES = (0.025, 0.975)
_AT_ONCE = 2_000_000
"""Draws that are held in memory at once."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, and between which bounds it lies in 95 of 100 resamples (percentile bootstrap)."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        return {name: value if np.isfinite(value) else None for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class PairedTest:
    """How much the first of two systems is above the second on the same `n` items.

    `difference`: mean of the differences, with its two-sided 95% interval; `p_value`: two-sided, that so
    large a difference comes about by chance.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def bootstrap_mean(
    values: Values, *, samples: int = 2000, seed: int = 0, groups: Sequence[object] | None = None
) -> Interval:
    """The mean of `values` (n,) with its interval.

    `groups` (n,): what each value belongs to; then the mean of each group's own mean is taken, and whole
    groups are resampled, for values of one group are no independent evidence.

    Raises:
        UsageError: there are no values, one is not finite, or groups are more or fewer than values.
    """
    items = _finite(values)
    if groups is not None:
        items = _group_means(items, groups)
    means = _resampled_means(items, samples=samples, seed=seed)
    low, high = np.quantile(means, _SIDES)
    return Interval(float(items.mean()), float(low), float(high))


def paired_bootstrap(ours: Values, theirs: Values, *, samples: int = 10_000, seed: int = 0) -> PairedTest:
    """Whether `ours` (n,) differ from `theirs` (n,), item by item.

    The p-value is the share of resamples whose mean, less the mean found, is as far from zero as that is
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, 16.4).

    Raises:
        UsageError: the lengths differ, there are fewer than two items, or a value is not finite.
    """
    first, second = _finite(ours), _finite(theirs)
    if len(first) != len(second):
        raise UsageError(
            f"{len(first)} values cannot be paired with {len(second)}", hint="score both on the same items"
        )
    if len(first) < 2:
        raise UsageError("a paired test needs two items at least", hint="give more queries or pairs")
    differences = first - second
    found = float(differences.mean())
    means = _resampled_means(differences, samples=samples, seed=seed)
    return difference_test(found, means, n=len(differences))


def difference_test(found: float, drawn: NDArray[np.float64], *, n: int) -> PairedTest:
    """The paired test of a difference between two systems from its values in resamples of the `n` items.

    Raises:
        UsageError: no resample has a value.
    """
    known = drawn[np.isfinite(drawn)]
    interval = interval_of(found, known)
    further = int((np.abs(known - found) >= abs(found)).sum())
    return PairedTest(found, interval.low, interval.high, (1 + further) / (1 + len(known)), n)


def bootstrap_statistic(
    statistic: Callable[..., float], *arrays: NDArray[Any], samples: int = 1000, seed: int = 0
) -> Interval:
    """`statistic(*arrays)` with its interval; rows of the arrays (n, ...) are resampled together.

    A resample for which the statistic is NaN, as an AUC of one class only, is left out.

    Raises:
        UsageError: the arrays are empty or of different lengths, or no resample has a statistic.
    """
    count = len(arrays[0])
    if not count or any(len(array) != count for array in arrays):
        raise UsageError("the arrays must be of one length, and not empty", hint="give one row per item")
    drawn = np.array(
        [
            statistic(*(array[rows] for array in arrays))
            for chunk in _draws(count, samples=samples, seed=seed)
            for rows in chunk
        ]
    )
    return interval_of(float(statistic(*arrays)), drawn)


def bootstrap_counts(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    count: int,
    *,
    samples: int,
    seed: int | Sequence[int],
) -> NDArray[np.float64]:
    """A statistic of many resamples at once, (samples, ...). Equal seeds and counts draw the same items.

    `statistic`: from how often each of `count` items was drawn, (resamples, count), to (resamples, ...).
    """
    return np.concatenate(
        [statistic(_counts(rows, count)) for rows in _draws(count, samples=samples, seed=seed)]
    )


def interval_of(found: float, drawn: NDArray[np.float64]) -> Interval:
    """The interval of a figure from its values in resamples; NaN among them are left out.

    Raises:
        UsageError: no resample has a value.
    """
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        raise UsageError("no resample has the figure", hint="give more items")
    low, high = np.quantile(known, _SIDES)
    return Interval(found, float(low), float(high))


def _finite(values: Values) -> NDArray[np.float64]:
    items = np.asarray(values, np.float64)
    if items.ndim != 1 or not len(items):
        raise UsageError("there are no values to judge by", hint="give one figure per query or pair")
    if not np.isfinite(items).all():
        place = int(np.flatnonzero(~np.isfinite(items))[0])
        raise UsageError(f"value {place} is not finite", hint="check what it was computed from")
    return items


def _group_means(items: NDArray[np.float64], groups: Sequence[object]) -> NDArray[np.float64]:
    if len(groups) != len(items):
        raise UsageError(f"{len(groups)} groups do not fit {len(items)} values", hint="give one per value")
    numbers: dict[object, int] = {}
    places = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    return np.bincount(places, weights=items) / np.bincount(places)


def _resampled_means(items: NDArray[np.float64], *, samples: int, seed: int) -> NDArray[np.float64]:
    chunks = [items[rows].mean(axis=1) for rows in _draws(len(items), samples=samples, seed=seed)]
    return np.concatenate(chunks)


def _draws(count: int, *, samples: int, seed: int | Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """Positions of resampled items, (resamples, count) at a time."""
    if samples < 1:
        raise UsageError(f"samples must be at least 1, not {samples}", hint="1000 are usual")
    generator = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // count)
    for start in range(0, samples, step):
        yield generator.integers(0, count, size=(min(step, samples - start), count))


def _counts(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """How often each item was drawn, (resamples, count)."""
    shifted = rows + count * np.arange(len(rows))[:, None]
    return np.bincount(shifted.ravel(), minlength=rows.size).reshape(len(rows), count)
