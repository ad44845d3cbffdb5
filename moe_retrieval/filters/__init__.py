"""The filter language, as text and as Python objects: `year >= 2015` is `Field("year") >= 2015`.

Nothing here knows SQL: a store translates the tree, over the fields it has, with values it quotes itself.
"""

from __future__ import annotations

from moe_retrieval.filters.fields import Field
from moe_retrieval.filters.parsing import parse_filter
from moe_retrieval.filters.tree import (
    MAX_CLAUSES,
    MAX_DEPTH,
    MAX_PATTERN,
    MAX_VALUES,
    And,
    Compare,
    Comparison,
    Filter,
    IsNull,
    Like,
    Not,
    OneOf,
    Or,
    Value,
    check_size,
    fields_of,
    leaves,
)

__all__ = [
    "MAX_CLAUSES",
    "MAX_DEPTH",
    "MAX_PATTERN",
    "MAX_VALUES",
    "And",
    "Compare",
    "Comparison",
    "Field",
    "Filter",
    "IsNull",
    "Like",
    "Not",
    "OneOf",
    "Or",
    "Value",
    "check_size",
    "fields_of",
    "leaves",
    "parse_filter",
]
