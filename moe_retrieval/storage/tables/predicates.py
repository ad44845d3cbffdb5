"""A filter tree as SQL over the columns of one table.

Lance has no bound parameters, so this is the one place where text becomes SQL: column names come only from
the table's own schema, and a string literal is safe because its quotes are doubled (backslash is no escape).

SQL's NULL would make `not (journal = 'BMJ')` miss the documents without a journal. So a negation is pushed
down to the leaves and written there as `IS NOT TRUE`; what is above them then reads as two-valued logic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING

from moe_retrieval.errors import FilterError, did_you_mean
from moe_retrieval.filters import And, Compare, Comparison, IsNull, Like, Not, OneOf, Or, check_size, leaves
from moe_retrieval.filters.fields import check_order
from moe_retrieval.storage.tables.kinds import BUILT_IN, Kind, check_kinds, kind_of, kinds_of
from moe_retrieval.storage.tables.patterns import SEPARATOR, like_pattern, member_regex
from moe_retrieval.storage.tables.rows import field_name

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from moe_retrieval.filters import Filter, Value
    from moe_retrieval.filters.tree import Leaf

    Known = Collection[str] | Mapping[str, frozenset[Kind]]

_NOTHING = "false"
_MAX_SQL_DEPTH = 40
"""The engine's SQL parser gives up at 46 nested parentheses."""

_ISO_DATE = "^[0-9]{4}($|-[0-9]{2}($|-[0-9]{2}($|[T ])))"
"""What a text must look like to be compared with a day; `2015` and `2015-03` are before all their days."""


def to_sql(tree: Filter, columns: Collection[str], *, known: Known = ()) -> str:
    """SQL that matches what the tree matches.

    `columns` are this table's; `known` are fields other tables of the store have, with the kinds of their
    values where these are known too: here they match nothing, while a field that no table has is an error.

    Raises:
        FilterError: a field is unknown or holds no such values, a value has no SQL form, or the tree is too
            large or nested too deeply.
    """
    check_size(tree)
    _check_leaves(tree, _all_kinds(columns, known))
    return _node(tree, frozenset(columns), negated=False, depth=0)


def literal(value: Value) -> str:
    """A value as SQL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | date):
        return "'" + str(value).replace("'", "''") + "'"
    if not math.isfinite(value):
        raise FilterError(f"the filter has the number {value}", hint="numbers must be finite")
    return repr(float(value))


def _all_kinds(columns: Collection[str], known: Known) -> dict[str, frozenset[Kind]]:
    """Kinds by field, over this table and the others; none where those of another table are not known."""
    found = kinds_of(columns)
    for name in known:
        plain = field_name(name)
        if isinstance(known, Mapping):
            found[plain] = found.get(plain, frozenset()) | known[name]
        elif plain not in BUILT_IN:
            found[plain] = frozenset()
    return found


def _check_leaves(tree: Filter, kinds: Mapping[str, frozenset[Kind]]) -> None:
    for leaf in leaves(tree):
        if field_name(leaf.field) not in kinds:
            raise FilterError(
                f"no document has the field {leaf.field!r}", hint=did_you_mean(leaf.field, sorted(kinds))
            )
        if isinstance(leaf, Comparison):
            check_order(leaf.field, leaf.operator, leaf.value)
        check_kinds(leaf, kinds)


def _node(tree: Filter, columns: frozenset[str], *, negated: bool, depth: int) -> str:
    if depth > _MAX_SQL_DEPTH:
        raise FilterError("the filter is nested too deeply", hint="simplify it, or use field in (...)")
    if isinstance(tree, Not):
        return _node(tree.part, columns, negated=not negated, depth=depth)
    if isinstance(tree, And | Or):
        return _joined(tree, columns, negated=negated, depth=depth)
    leaf = _leaf(tree, columns)
    return f"({leaf}) IS NOT TRUE" if negated else f"({leaf})"


def _joined(tree: And | Or, columns: frozenset[str], *, negated: bool, depth: int) -> str:
    """De Morgan: a negated `and` is the `or` of the negated parts. Parts of one kind need no parentheses."""
    is_and = isinstance(tree, And) is not negated
    if not tree.parts:
        return "(true)" if is_and else f"({_NOTHING})"
    parts: list[str] = []
    for part in tree.parts:
        kind = _kind(part, negated=negated)
        same = kind is None or kind is is_and
        sql = _node(part, columns, negated=negated, depth=depth if same else depth + 1)
        parts.append(sql if same else f"({sql})")
    return (" AND " if is_and else " OR ").join(parts)


def _kind(tree: Filter, *, negated: bool) -> bool | None:
    """True if it will be written as a conjunction, False as a disjunction, None as one clause."""
    while isinstance(tree, Not):
        tree, negated = tree.part, not negated
    if isinstance(tree, And | Or):
        return isinstance(tree, And) is not negated if tree.parts else None
    return None


def _leaf(leaf: Leaf, columns: frozenset[str]) -> str:
    match leaf:
        case Comparison():
            return _comparison(leaf, columns)
        case OneOf():
            return _one_of(leaf, columns)
        case Like():
            return _like(leaf, columns)
        case IsNull():
            return _is_null(leaf, columns)


def _comparison(tree: Comparison, columns: frozenset[str]) -> str:
    value = literal(tree.value)
    parts = [
        _ordered(column, tree.operator, tree.value)
        for column in _columns(tree.field, kind_of(tree.value), columns)
    ]
    if kind_of(tree.value) is Kind.TEXT:
        for listed in _columns(tree.field, Kind.LIST, columns):
            if tree.operator is Compare.EQ:
                parts.append(f"array_has({listed}, {value})")
            elif tree.operator is Compare.NE:
                parts.append(f"({listed} IS NOT NULL AND NOT (array_has({listed}, {value})))")
    return " OR ".join(parts) or _NOTHING


def _ordered(column: str, operator: Compare, value: Value) -> str:
    if not isinstance(value, date):
        return f"{column} {operator.value} {literal(value)}"
    return f"({_dated(column)} AND {_day(column)} {operator.value} {literal(value)})"


def _one_of(tree: OneOf, columns: frozenset[str]) -> str:
    parts: list[str] = []
    for form, group in groupby(sorted(tree.values, key=_form), key=_form):
        values = list(group)
        kind = kind_of(values[0])
        listing = ", ".join(map(literal, values))
        for column in _columns(tree.field, kind, columns):
            dated = form == _form(date.min)
            parts.append(
                f"({_dated(column)} AND {_day(column)} IN ({listing}))"
                if dated
                else f"{column} IN ({listing})"
            )
        if kind is Kind.TEXT:
            parts += [
                f"array_has_any({column}, make_array({listing}))"
                for column in _columns(tree.field, Kind.LIST, columns)
            ]
    return " OR ".join(parts) or _NOTHING


def _form(value: Value) -> str:
    """Values of one form can be listed together."""
    return type(value).__name__ if isinstance(value, bool | str | date) else "number"


def _like(tree: Like, columns: frozenset[str]) -> str:
    parts = [
        f"{column} LIKE {literal(like_pattern(tree.pattern))}"
        for column in _columns(tree.field, Kind.TEXT, columns)
    ]
    parts += [_member_like(column, tree.pattern) for column in _columns(tree.field, Kind.LIST, columns)]
    return " OR ".join(parts) or _NOTHING


def _member_like(column: str, pattern: str) -> str:
    """The members joined as one text, in lists where no member holds what they are joined with."""
    joint = literal(SEPARATOR)
    joined = f"array_to_string({column}, {joint})"
    sound = f"length({joined}) - length(replace({joined}, {joint}, '')) = array_length({column}) - 1"
    return f"({sound} AND regexp_like({joined}, {literal(member_regex(pattern))}))"


def _is_null(tree: IsNull, columns: frozenset[str]) -> str:
    plain = field_name(tree.field)
    if plain in BUILT_IN:
        empty = f" OR {plain} = ''" if BUILT_IN[plain] is Kind.TEXT else ""
        return f"{plain} IS NULL{empty}"
    held = [column for kind in Kind for column in _columns(tree.field, kind, columns)]
    return " AND ".join(f"{column} IS NULL" for column in held) or "true"


def _dated(column: str) -> str:
    return f"regexp_like({column}, {literal(_ISO_DATE)})"


def _day(column: str) -> str:
    return f"left({column}, 10)"


def _columns(name: str, kind: Kind, columns: frozenset[str]) -> Sequence[str]:
    """The column of a field for values of one kind, as SQL; none if the table has no such column."""
    plain = field_name(name)
    if plain in BUILT_IN:
        # the page is an integer, which the engine will not compare with every double
        column = f"CAST({plain} AS DOUBLE)" if BUILT_IN[plain] is Kind.NUMBER else plain
        return [column] if BUILT_IN[plain] is kind else []
    return [column for column in [f"{kind.value}_{plain}"] if column in columns]
