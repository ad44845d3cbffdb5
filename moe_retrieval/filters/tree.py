"""A filter as a tree of typed values. `&`, `|` and `~` join trees, and `str` writes them as text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn, cast

from moe_retrieval.errors import FilterError
from moe_retrieval.filters.writing import written

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CLAUSES = 1_000
MAX_VALUES = 10_000
"""Values after all `in` of a filter together: at 100,000 documents they take a second."""

MAX_PATTERN = 1_000
"""Characters of a pattern after `like`."""

MAX_DEPTH = 50

_MAX_LEVELS = 2 * MAX_DEPTH + 8
"""Levels of a tree: a pair of parentheses may hold an `or` of an `and`."""

Value = str | float | bool | date
"""What a field is compared with. A date is a day: it is compared with texts that are ISO 8601 dates."""


class Compare(StrEnum):
    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


class _Joined:
    """What every part of a tree can do."""

    __slots__ = ()

    def __and__(self, other: Filter) -> And:
        return And((*_parts(self, And), *_parts(other, And)))

    def __or__(self, other: Filter) -> Or:
        return Or((*_parts(self, Or), *_parts(other, Or)))

    def __invert__(self) -> Filter:
        return self.part if isinstance(self, Not) else Not(cast("Filter", self))

    def __str__(self) -> str:
        """The filter as text, which `parse_filter` reads back."""
        tree = cast("Filter", self)
        check_size(tree)
        return written(tree)

    def __bool__(self) -> NoReturn:
        """None: `a and b` would be b alone, and `1 < field < 3` would be `field < 3`."""
        raise FilterError(
            "a filter is neither true nor false", hint="join filters with &, | and ~, not and, or, not"
        )


@dataclass(frozen=True, slots=True)
class Comparison(_Joined):
    """`field operator value`; a document without the field does not match, whatever the operator."""

    field: str
    operator: Compare
    value: Value


@dataclass(frozen=True, slots=True)
class OneOf(_Joined):
    """`field in (a, b, c)`; no values match nothing."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Like(_Joined):
    r"""`field like 'pattern'`: `%` stands for any characters, `_` for one; `\%`, `\_`, `\\` for themselves.

    Upper and lower case differ, as with `=`. Of a list, one member must match, whole.
    """

    field: str
    pattern: str


@dataclass(frozen=True, slots=True)
class IsNull(_Joined):
    """`field is null`: the document has no such field; an empty title, section or source counts as none."""

    field: str


@dataclass(frozen=True, slots=True)
class Not(_Joined):
    """`not part`: matches where `part` does not, a missing field included."""

    part: Filter


@dataclass(frozen=True, slots=True)
class And(_Joined):
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or(_Joined):
    parts: tuple[Filter, ...]


Leaf = Comparison | OneOf | Like | IsNull
Filter = Leaf | Not | And | Or


def leaves(tree: Filter) -> Iterator[Leaf]:
    """All clauses of a tree, from left to right; however deep it is."""
    for part, _ in _walk(tree):
        if isinstance(part, Leaf):
            yield part


def fields_of(tree: Filter) -> frozenset[str]:
    """Names of all fields a filter mentions."""
    return frozenset(leaf.field for leaf in leaves(tree))


def check_size(tree: Filter) -> None:
    """Whether a tree, which may have been put together by a program, is of a size that a store can apply.

    Raises:
        FilterError: it has too many clauses, values or levels, or too long a pattern.
    """
    clauses = values = 0
    for part, depth in _walk(tree):
        if depth > _MAX_LEVELS:
            raise too_deep()
        clauses += isinstance(part, Leaf)
        values += len(part.values) if isinstance(part, OneOf) else 0
        if isinstance(part, Like) and len(part.pattern) > MAX_PATTERN:
            raise FilterError(
                f"the pattern for {part.field} has {len(part.pattern):,} characters",
                hint=f"patterns have at most {MAX_PATTERN:,}",
            )
    if clauses > MAX_CLAUSES:
        raise too_many_clauses()
    if values > MAX_VALUES:
        raise FilterError(
            f"the filter lists {values:,} values after 'in'", hint=f"list at most {MAX_VALUES:,}"
        )


def too_many_clauses() -> FilterError:
    return FilterError(f"the filter has more than {MAX_CLAUSES} clauses", hint="use field in (...)")


def too_deep() -> FilterError:
    return FilterError(f"the filter is nested deeper than {MAX_DEPTH} levels", hint="simplify it")


def check_unicode(text: str) -> None:
    """No lone surrogates: bytes of a terminal that were not UTF-8, which no store can compare with.

    Raises:
        FilterError: there is one; the message shows where.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"character {error.start + 1} of the filter is not UTF-8"
        raise FilterError(message, hint="type it anew, in UTF-8") from error


def _walk(tree: Filter) -> Iterator[tuple[Filter, int]]:
    """Every part and its depth, in the order of the text, without recursion: a program nests as it likes."""
    waiting: list[tuple[Filter, int]] = [(tree, 0)]
    while waiting:
        part, depth = waiting.pop()
        yield part, depth
        if isinstance(part, Not):
            waiting.append((part.part, depth + 1))
        elif isinstance(part, And | Or):
            waiting += [(inner, depth + 1) for inner in reversed(part.parts)]


def _parts(tree: _Joined, kind: type[And | Or]) -> tuple[Filter, ...]:
    """A tree as operands of `kind`: `a & b & c` is one `and` of three."""
    if not isinstance(tree, _Joined):
        raise FilterError(
            f"a filter cannot be joined with {tree!r}", hint="parse texts with parse_filter first"
        )
    return tree.parts if isinstance(tree, kind) else (cast("Filter", tree),)
