"""Which kinds of values a table's fields hold, and whether a clause of a filter fits them."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING

from moe_retrieval.errors import FilterError
from moe_retrieval.filters import Compare, Comparison, IsNull, OneOf
from moe_retrieval.filters.writing import value_text
from moe_retrieval.storage.tables.rows import field_name, metadata_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from moe_retrieval.filters import Value
    from moe_retrieval.filters.tree import Leaf


class Kind(StrEnum):
    """What a column of metadata holds; the value begins its name."""

    TEXT = "s"
    NUMBER = "n"
    FLAG = "b"
    LIST = "l"


BUILT_IN = {
    "doc_id": Kind.TEXT,
    "source": Kind.TEXT,
    "title": Kind.TEXT,
    "section": Kind.TEXT,
    "page": Kind.NUMBER,
}
"""Fields every document has, with the kind of their values; they win over metadata of the same name."""

_HELD = {Kind.TEXT: "text", Kind.NUMBER: "numbers", Kind.FLAG: "true or false", Kind.LIST: "lists"}
_NEXT = {
    Kind.TEXT: "quote the value: '...'",
    Kind.NUMBER: "compare it with a number, without quotes",
    Kind.FLAG: "compare it with true or false, without quotes",
    Kind.LIST: "use =, !=, in or like with a 'text' that may be in the list",
}


def kinds_of(columns: Iterable[str]) -> dict[str, frozenset[Kind]]:
    """Names that a filter may use on a table with these columns, and the kinds of values each has."""
    found: dict[str, frozenset[Kind]] = {}
    for column in metadata_columns(columns):
        found[column[2:]] = found.get(column[2:], frozenset()) | {Kind(column[0])}
    found |= {name: frozenset({kind}) for name, kind in BUILT_IN.items()}
    return dict(sorted(found.items()))


def kind_of(value: Value) -> Kind:
    """The kind of column a value is compared with; a date is compared with texts."""
    if isinstance(value, bool):
        return Kind.FLAG
    return Kind.TEXT if isinstance(value, str | date) else Kind.NUMBER


def check_kinds(leaf: Leaf, kinds: Mapping[str, frozenset[Kind]]) -> None:
    """Whether any document could match, by the kinds of values that a field has, where these are known.

    Raises:
        FilterError: none could, as where a number is compared with text.
    """
    held = kinds.get(field_name(leaf.field), frozenset())
    if isinstance(leaf, IsNull) or not held:
        return
    values = (
        leaf.values if isinstance(leaf, OneOf) else (leaf.value,) if isinstance(leaf, Comparison) else ("",)
    )
    ordered = isinstance(leaf, Comparison) and leaf.operator not in (Compare.EQ, Compare.NE)
    for value in values:
        wanted = kind_of(value)
        fits = {wanted, Kind.LIST} if wanted is Kind.TEXT and not ordered else {wanted}
        if not held & fits:
            raise _misfit(leaf, value, held, ordered=ordered)


def _misfit(leaf: Leaf, value: Value, held: frozenset[Kind], *, ordered: bool) -> FilterError:
    kind = min(held)
    what = " and ".join(_HELD[one] for one in sorted(held))
    if kind is Kind.LIST and ordered:
        how = "which have no order"
    elif isinstance(leaf, Comparison | OneOf):
        how = f"and {_shown(value)} is {_called(value)}"
    else:
        how = "which no pattern fits"
    return FilterError(f"the field {leaf.field!r} holds {what}, {how}", hint=_NEXT[kind])


def _called(value: Value) -> str:
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, date):
        return "a date"
    return "text" if isinstance(value, str) else "a number"


def _shown(value: Value) -> str:
    text = value_text(value)
    return text if len(text) <= 40 else text[:36] + "...'"
