"""Filters as Python objects: `(Field("year") >= 2015) & Field("journal").in_(["BMJ", "Lancet"])`."""

from __future__ import annotations

import math
import numbers
from datetime import date, datetime
from typing import TYPE_CHECKING

from moe_retrieval.errors import FilterError
from moe_retrieval.filters.tree import And, Compare, Comparison, IsNull, Like, Not, OneOf, check_unicode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moe_retrieval.filters.tree import Filter, Value


class Field:
    """A field of a document's metadata, by name. Compared with a value it gives a filter.

    Every operator raises FilterError for a value that no field can hold.
    """

    __slots__ = ("name",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, name: str) -> None:
        check_unicode(name)
        if not name.strip():
            raise FilterError("a field has no name", hint="for example: Field('year') >= 2015")
        self.name = name

    def __repr__(self) -> str:
        return f"Field({self.name!r})"

    def __eq__(self, value: object) -> Comparison:  # type: ignore[override]
        return self._compared(Compare.EQ, value)

    def __ne__(self, value: object) -> Comparison:  # type: ignore[override]
        return self._compared(Compare.NE, value)

    def __lt__(self, value: object) -> Comparison:
        return self._compared(Compare.LT, value)

    def __le__(self, value: object) -> Comparison:
        return self._compared(Compare.LE, value)

    def __gt__(self, value: object) -> Comparison:
        return self._compared(Compare.GT, value)

    def __ge__(self, value: object) -> Comparison:
        return self._compared(Compare.GE, value)

    def between(self, low: object, high: object) -> And:
        """From `low` to `high`, both included."""
        return (self >= low) & (self <= high)

    def in_(self, values: Iterable[object]) -> OneOf:
        """Equal to one of the values, or, a list, with one of them as a member."""
        if isinstance(values, str):
            raise FilterError("in_ takes a list, not one string", hint=f"{self!r}.in_([{values!r}])")
        return OneOf(self.name, one_type([value_of(value) for value in values]))

    def not_in(self, values: Iterable[object]) -> Filter:
        """Has the field, and none of the values."""
        return self.is_not_null() & ~self.in_(values)

    def like(self, pattern: str) -> Like:
        r"""Matches a pattern: `%` stands for any characters, `_` for one; `\%`, `\_` for themselves."""
        check_unicode(pattern)
        return Like(self.name, pattern)

    def not_like(self, pattern: str) -> Filter:
        """Has the field, and it does not match the pattern."""
        return self.is_not_null() & ~self.like(pattern)

    def is_null(self) -> IsNull:
        """The document has no such field."""
        return IsNull(self.name)

    def is_not_null(self) -> Not:
        """The document has the field."""
        return Not(IsNull(self.name))

    def _compared(self, operator: Compare, value: object) -> Comparison:
        found = value_of(value)
        check_order(self.name, operator, found)
        return Comparison(self.name, operator, found)


def value_of(value: object) -> Value:
    """A Python value as a filter holds it; NumPy's numbers too.

    Raises:
        FilterError: it is none that a field can be compared with.
    """
    if isinstance(value, str):
        check_unicode(value)
        return str(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Real):
        return finite(value, shown=str(value))
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    hint = "use text, a number, True or False, or datetime.date"
    if value is None:
        hint = "use is_null()"
    elif isinstance(value, datetime):
        hint = "use .date()"
    raise FilterError(f"a field cannot be compared with {value!r}", hint=hint)


def finite(value: str | numbers.Real, *, shown: str) -> float:
    """A number that a store can hold.

    Raises:
        FilterError: it is not a number, or beyond all numbers.
    """
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number):
        raise FilterError(
            "the filter has a number that is none (NaN)", hint="use is null to find what is missing"
        )
    if math.isinf(number):
        shown = shown if len(shown) <= 20 else shown[:17] + "..."
        raise FilterError(f"the number {shown} is too large", hint="numbers go up to 1.7e308")
    return number


def one_type(values: list[Value]) -> tuple[Value, ...]:
    """The values after `in`.

    Raises:
        FilterError: they are of different types.
    """
    if len({type(value) for value in values}) > 1:
        raise FilterError("the values after 'in' are of different types", hint="quote all of them, or none")
    return tuple(values)


def check_order(name: str, operator: Compare, value: Value) -> None:
    """Whether the comparison has a meaning.

    Raises:
        FilterError: true and false have no order.
    """
    if isinstance(value, bool) and operator not in (Compare.EQ, Compare.NE):
        raise FilterError(f"{name} {operator.value} true or false has no meaning", hint="use = or !=")
