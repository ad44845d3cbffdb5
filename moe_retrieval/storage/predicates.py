"""A filter tree as SQL over the columns of one table.

Lance has no bound parameters, so this is the one place where text becomes SQL: column names come only from
the table's own schema, and a string literal is safe because its quotes are doubled (backslash is no escape).

SQL's NULL would make `not (journal = 'BMJ')` miss the documents without a journal. So a negation is pushed
down to the leaves and written there as `IS NOT TRUE`; what is above them then reads as two-valued logic.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from moe_retrieval.errors import FilterError, did_you_mean
from moe_retrieval.filters import And, Compare, Comparison, Not, OneOf, Or, fields_of
from moe_retrieval.storage.rows import field_name, metadata_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from moe_retrieval.filters import Filter, Value

BUILT_IN = {"doc_id": "s", "source": "s", "title": "s", "section": "s", "page": "n"}
"""Fields every document has, with the kind of their values; they win over metadata of the same name."""

_NOTHING = "false"
_MAX_SQL_DEPTH = 40
"""The engine's SQL parser gives up at 46 nested parentheses."""


def filterable(columns: Iterable[str]) -> frozenset[str]:
    """Names a filter may use on a table with these columns."""
    return frozenset(BUILT_IN) | {name[2:] for name in metadata_columns(columns)}


def to_sql(tree: Filter, columns: Collection[str], *, known: Collection[str] = ()) -> str:
    """SQL that matches what the tree matches.

    `columns` are this table's; `known` are fields other tables of the store have: here they match nothing,
    while a field that no table has is an error.

    Raises:
        FilterError: a field is unknown, a value has no SQL form, or the tree is nested too deeply.
    """
    _check_fields(tree, filterable(columns) | {field_name(name) for name in known})
    return _node(tree, frozenset(columns), negated=False, depth=0)


def literal(value: Value) -> str:
    """A value as SQL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if not math.isfinite(value):
        raise FilterError(f"the filter has the number {value}", hint="numbers must be finite")
    return repr(float(value))


def _check_fields(tree: Filter, names: Collection[str]) -> None:
    for name in sorted(fields_of(tree)):
        if field_name(name) not in names:
            raise FilterError(f"no document has the field {name!r}", hint=did_you_mean(name, sorted(names)))


def _node(tree: Filter, columns: frozenset[str], *, negated: bool, depth: int) -> str:
    if depth > _MAX_SQL_DEPTH:
        raise FilterError("the filter is nested too deeply", hint="simplify it, or use field in (...)")
    if isinstance(tree, Not):
        return _node(tree.part, columns, negated=not negated, depth=depth)
    if isinstance(tree, And | Or):
        return _joined(tree, columns, negated=negated, depth=depth)
    leaf = _comparison(tree, columns) if isinstance(tree, Comparison) else _one_of(tree, columns)
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
    """True if it will be written as a conjunction, False as a disjunction, None as one comparison."""
    while isinstance(tree, Not):
        tree, negated = tree.part, not negated
    if isinstance(tree, And | Or):
        return isinstance(tree, And) is not negated if tree.parts else None
    return None


def _comparison(tree: Comparison, columns: frozenset[str]) -> str:
    if isinstance(tree.value, bool) and tree.operator not in (Compare.EQ, Compare.NE):
        raise FilterError(
            f"{tree.field} {tree.operator.value} true or false has no meaning", hint="use = or !="
        )
    value = literal(tree.value)
    parts = [
        f"{column} {tree.operator.value} {value}"
        for column in _plain_columns(tree.field, tree.value, columns)
    ]
    if listed := _list_column(tree.field, tree.value, columns):
        if tree.operator is Compare.EQ:
            parts.append(f"array_has({listed}, {value})")
        elif tree.operator is Compare.NE:
            parts.append(f"({listed} IS NOT NULL AND NOT (array_has({listed}, {value})))")
    return " OR ".join(parts) or _NOTHING


def _one_of(tree: OneOf, columns: frozenset[str]) -> str:
    parts: list[str] = []
    for kind in (bool, str, float):
        values = [value for value in tree.values if _python_kind(value) is kind]
        if not values:
            continue
        listing = ", ".join(literal(value) for value in values)
        parts += [f"{column} IN ({listing})" for column in _plain_columns(tree.field, values[0], columns)]
        if listed := _list_column(tree.field, values[0], columns):
            parts += [f"array_has({listed}, {literal(value)})" for value in values]
    return " OR ".join(parts) or _NOTHING


def _python_kind(value: Value) -> type:
    if isinstance(value, bool):
        return bool
    return str if isinstance(value, str) else float


def _plain_columns(name: str, value: Value, columns: frozenset[str]) -> list[str]:
    prefix = {bool: "b", str: "s", float: "n"}[_python_kind(value)]
    plain = field_name(name)
    if plain in BUILT_IN:
        # the page is an integer, which the engine will not compare with every double
        column = f"CAST({plain} AS DOUBLE)" if BUILT_IN[plain] == "n" else plain
        return [column] if BUILT_IN[plain] == prefix else []
    return [column for column in [f"{prefix}_{plain}"] if column in columns]


def _list_column(name: str, value: Value, columns: frozenset[str]) -> str:
    column = f"l_{field_name(name)}"
    return column if isinstance(value, str) and field_name(name) not in BUILT_IN and column in columns else ""
