"""Hits that deserve more: newer ones, or those with a value in a field.

A boost adds to scores that were scaled from the list's last (0) to its best (1), so a weight says how much of
that distance a full boost is worth, whatever made the scores.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.errors import UsageError
from moe_retrieval.retrieval.refining.scaling import rescored, unit
from moe_retrieval.storage.tables.rows import field_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moe_retrieval.types import Hit, MetaValue

WEIGHT = 0.2
"""What a boost is worth unless it says otherwise."""

_BUILT_IN = ("doc_id", "source", "title", "section", "page", "domain")
_DATE = re.compile(
    r"\s*(\d{4})(?:[-/ ](0?[1-9]|1[0-2])(?:[-/ ](0?[1-9]|[12]\d|3[01]))?(?!\d)"
    r"|(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])?(?!\d)|(?!\d))"
)
_WRITTEN = re.compile(r"\s*([A-Za-z_][\w.\-]*|`(?:[^`]|``)+`)\s*([=~])\s*(.+?)\s*(?:\^\s*([-+]?[\d.]+))?\s*")


@dataclass(frozen=True, slots=True)
class Recency:
    """Newer is better: a boost of 1 for the newest of the hits, half of it every `half_life` years before.

    `field` holds years as numbers, or dates as 2015, 2015-03 or 2015-03-02; a document without one gets
    nothing. What is newest is the newest hit, not today: the same query of one generation stays the same.
    """

    field: str
    half_life: float
    weight: float = WEIGHT

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        if not (self.half_life > 0 and math.isfinite(self.half_life)):
            raise UsageError(f"a half-life of {self.half_life} years", hint="give years above 0: year~5")

    def values(self, hits: Sequence[Hit]) -> NDArray[np.float64]:
        """The boost (n,) of every hit before its weight, 0 to 1."""
        dates = np.array([year_of(field_of(hit, self.field)) for hit in hits], np.float64)
        known = np.isfinite(dates)
        if not known.any():
            return np.zeros(len(hits))
        age = dates[known].max() - dates
        return np.asarray(np.where(known, 0.5 ** (np.where(known, age, 0.0) / self.half_life), 0.0))


@dataclass(frozen=True, slots=True)
class Match:
    """A boost of 1 for documents whose field has a value, or has it in its list; `5` is 5.0."""

    field: str
    value: str | float | bool
    weight: float = WEIGHT

    def __post_init__(self) -> None:
        _check_weight(self.weight)

    def values(self, hits: Sequence[Hit]) -> NDArray[np.float64]:
        """The boost (n,) of every hit before its weight, 0 or 1."""
        return np.array([float(self._matches(field_of(hit, self.field))) for hit in hits], np.float64)

    def _matches(self, held: MetaValue) -> bool:
        if held is None:
            return False
        if isinstance(held, list):
            return any(self._matches(part) for part in held)
        if isinstance(held, bool) or isinstance(self.value, bool):
            return str(held).lower() == str(self.value).lower()
        return str(held) == str(self.value) or _number(held) == _number(self.value)


Boost = Recency | Match


def parse_boost(text: str) -> Boost:
    """A boost as it is written: `year~5` (half of it for every 5 years of age), `journal=BMJ`; with a weight,
    `year~5^0.3`.

    Raises:
        UsageError: it means nothing.
    """
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise UsageError(f"the boost {text!r} cannot be read", hint="for example: year~5 or journal=BMJ^0.3")
    field, sign, value, weight = found.groups()
    if field.startswith("`"):
        field = field[1:-1].replace("``", "`")
    number = WEIGHT if weight is None else _number(weight)
    if sign == "=":
        return Match(field, value, number)
    if math.isnan(years := _number(value)):
        raise UsageError(f"the boost {text!r} has no number of years after ~", hint="for example: year~5")
    return Recency(field, years, number)


def boosted(hits: Sequence[Hit], boosts: Sequence[Boost]) -> list[Hit]:
    """The hits in their new order; each one's `why.boost` is what was added to its scaled score."""
    if not hits:
        return []
    added = np.sum([boost.weight * boost.values(hits) for boost in boosts], axis=0)
    scores = unit([hit.score for hit in hits]) + added
    order = np.argsort(-scores, kind="stable")
    return [_raised(hits[at], score=float(scores[at]), boost=float(added[at])) for at in order]


def is_built_in(name: str) -> bool:
    """Whether every hit has this field, whatever its document's metadata."""
    return field_name(name) in _BUILT_IN


def field_of(hit: Hit, name: str) -> MetaValue:
    """The value of a field of the hit's document, spelled as filters spell it; None where it has none."""
    plain = field_name(name)
    if plain in _BUILT_IN:
        value: MetaValue = getattr(hit, plain)
        return value
    return next((value for key, value in hit.metadata.items() if field_name(key) == plain), None)


def year_of(value: MetaValue) -> float:
    """A date as a year with its fraction, as far as it can be read; NaN for what is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            return math.nan
        if abs(value) < 10_000:
            return float(value)
        value = f"{value:.0f}"
    found = _DATE.match(value) if isinstance(value, str) else None
    if found is None:
        return math.nan
    year, month, day, month_alone, day_alone = found.groups()
    month, day = int(month or month_alone or 1), int(day or day_alone or 1)
    return int(year) + (month - 1) / 12 + (day - 1) / 372  # twelve months of 31 days: order is what counts


def _raised(hit: Hit, *, score: float, boost: float) -> Hit:
    raised = rescored(hit, score)
    return replace(raised, why=replace(raised.why, boost=boost))


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return math.nan


def _check_weight(weight: float) -> None:
    if not (math.isfinite(weight) and weight):
        raise UsageError(f"a boost of weight {weight}", hint="give a number other than 0: journal=BMJ^0.3")
