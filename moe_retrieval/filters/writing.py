"""A filter tree as text."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_retrieval.filters.tree import Filter, Value

KEY_WORDS = frozenset({"and", "or", "not", "in", "like", "is", "null", "between", "true", "false"})
"""Words that name a field only where they are quoted: `` `in` = 3 ``."""

_NONE = "doc_id in ()"
_ALL = f"not {_NONE}"
"""What an `or` and an `and` of nothing match, in words: the language has no constants."""

_NAME = re.compile(r"[A-Za-z_][\w.\-]*")


def written(tree: Filter) -> str:
    """The text of a tree, with no more parentheses than it needs."""
    from moe_retrieval.filters.tree import And, Comparison, IsNull, Like, Not, OneOf, Or

    match tree:
        case Comparison(name, operator, value):
            return f"{_name(name)} {operator.value} {value_text(value)}"
        case OneOf(name, values):
            return f"{_name(name)} in ({', '.join(map(value_text, values))})"
        case Like(name, pattern):
            return f"{_name(name)} like {value_text(pattern)}"
        case IsNull(name):
            return f"{_name(name)} is null"
        case Not(part):
            return f"not {_operand(part)}"
        case And(()) | Or(()):
            return _ALL if isinstance(tree, And) else _NONE
        case _:
            word = " and " if isinstance(tree, And) else " or "
            return word.join(_operand(part) for part in tree.parts)


def _operand(tree: Filter) -> str:
    from moe_retrieval.filters.tree import And, Or

    several = isinstance(tree, And | Or) and len(tree.parts) > 1
    return f"({written(tree)})" if several else written(tree)


def _name(name: str) -> str:
    if _NAME.fullmatch(name) and name.lower() not in KEY_WORDS:
        return name
    return "`" + name.replace("`", "``") + "`"


def value_text(value: Value) -> str:
    """A value as it is written in a filter."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, date):
        return value.isoformat()
    whole = float(value).is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else repr(float(value))
