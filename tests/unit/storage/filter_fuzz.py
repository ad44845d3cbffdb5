"""Random rows, random filters over them, and what a filter means, said without SQL."""

from __future__ import annotations

import operator
import re
from datetime import date
from typing import TYPE_CHECKING, Any

from moe_retrieval.filters import And, Compare, Comparison, Filter, IsNull, Like, Not, OneOf, Or

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from moe_retrieval.filters import Value
    from moe_retrieval.types import MetaValue

HOSTILE = [
    "x' OR '1'='1",
    "\\' OR 1=1 --",
    "'; drop table t",
    '"',
    "",
    "\0",
    "é\n😀",
    "%",
    "a'b''c",
    "a_b\\",
    "\\%",
    "a\x1fb",
]
DAYS = ["2015", "2015-03", "2015-03-01", "2015-03-01T10:00:00", "2015-03-02 23:00", "2016-01-01Z", "20150301"]
TEXTS = ["BMJ", "bmj", "Lancet", "BMJ Open", "5", "true", *DAYS, *HOSTILE]
NUMBERS = [0.0, -1.5, 5.0, 2015.0, 1e300, -1e300, 3e-7]
DATES = [date(2015, 3, 1), date(2015, 3, 2), date(2016, 1, 1), date(1, 1, 1), date(9999, 12, 31)]
FIELDS = ["text", "list", "number", "flag", "mixed", "title", "page", "Elsewhere"]
PATTERNS = [
    "%",
    "_",
    "",
    "BMJ%",
    "%mj",
    "%e%",
    "B_J",
    r"\%",
    r"%\_%",
    "%\\",
    r"\\%",
    "2015-0_-%",
    "%\n%",
    "_\n_",
    "^.*$",
]
KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,), "list": (list,), "number": (float,), "flag": (bool,), "mixed": (str, float, bool, list),
    "title": (str,), "page": (float,), "Elsewhere": (str, float, bool, list),
}  # fmt: skip
"""Kinds of values by field: `Elsewhere` is a field that only another table has."""

_COMPARES: Mapping[Compare, Any] = {
    Compare.EQ: operator.eq,
    Compare.NE: operator.ne,
    Compare.LT: operator.lt,
    Compare.LE: operator.le,
    Compare.GT: operator.gt,
    Compare.GE: operator.ge,
}
_DATE = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}([T ].*)?)?)?", re.DOTALL)


def random_metadata(random: Random) -> dict[str, MetaValue]:
    found: dict[str, MetaValue] = {}
    for name in ("text", "list", "number", "flag", "mixed"):
        if random.random() < 0.75:
            found[name] = _stored(random, random.choice(KINDS[name]))
    return found


def random_tree(random: Random, *, depth: int = 4) -> Filter:
    if depth and random.random() < 0.6:
        joint = random.choice([And, Or, Not])
        if joint is Not:
            return Not(random_tree(random, depth=depth - 1))
        return joint(tuple(random_tree(random, depth=depth - 1) for _ in range(random.randint(0, 3))))
    return _random_leaf(random)


def means(tree: Filter, meta: Mapping[str, MetaValue]) -> bool:
    """Whether a document with these fields matches."""
    match tree:
        case Not(part):
            return not means(part, meta)
        case And(parts):
            return all(means(part, meta) for part in parts)
        case Or(parts):
            return any(means(part, meta) for part in parts)
        case OneOf(name, values):
            return any(means(Comparison(name, Compare.EQ, value), meta) for value in values)
        case IsNull(name):
            return meta.get(name) is None or (name == "title" and meta[name] == "")
        case Like(name, pattern):
            return _is_like(meta.get(name), pattern)
        case Comparison(name, compare, value):
            return _compares(meta.get(name), compare, value)


def _is_like(held: MetaValue, pattern: str) -> bool:
    members = held if isinstance(held, list) else [held]
    if isinstance(held, list) and any("\x1f" in one for one in held):
        return False  # as the documentation says
    return any(isinstance(one, str) and _like(pattern).fullmatch(one) is not None for one in members)


def _compares(held: MetaValue, compare: Compare, value: Value) -> bool:
    if isinstance(held, list):
        if not isinstance(value, str | date):
            return False
        member = str(value) in held
        return member if compare is Compare.EQ else compare is Compare.NE and not member
    if isinstance(value, date):
        dated = isinstance(held, str) and _DATE.fullmatch(held) is not None
        return dated and bool(_COMPARES[compare](str(held)[:10], str(value)))
    return held is not None and _kind(held) is _kind(value) and bool(_COMPARES[compare](held, value))


def _like(pattern: str) -> re.Pattern[str]:
    body, at = "", 0
    while at < len(pattern):
        if pattern[at] == "\\" and pattern[at + 1 : at + 2] in ("%", "_", "\\"):
            at += 1
            body += re.escape(pattern[at])
        else:
            body += {"%": ".*", "_": "."}.get(pattern[at], re.escape(pattern[at]))
        at += 1
    return re.compile(body, re.DOTALL)


def _kind(value: object) -> type:
    return bool if isinstance(value, bool) else str if isinstance(value, str) else float


def _stored(random: Random, kind: type) -> MetaValue:
    if kind is list:
        return random.choices(TEXTS, k=random.randint(0, 3))
    if kind is str:
        return random.choice(TEXTS)
    return random.random() < 0.5 if kind is bool else random.choice(NUMBERS)


def _random_leaf(random: Random) -> Filter:
    name = random.choice(FIELDS)
    kind = random.choice(KINDS[name])
    form = random.choice(["compare", "compare", "in", "like", "null"])
    if form == "null":
        return IsNull(name)
    if form == "like" and kind in (str, list):
        return Like(name, random.choice([*PATTERNS, _pattern(random)]))
    if form == "in":
        return OneOf(name, tuple(_value(random, kind) for _ in range(random.randint(0, 4))))
    orders = [Compare.EQ, Compare.NE] if kind in (bool, list) else list(Compare)
    return Comparison(name, random.choice(orders), _value(random, kind))


def _value(random: Random, kind: type) -> Value:
    if kind is bool:
        return random.random() < 0.5
    if kind is float:
        return random.choice(NUMBERS)
    return random.choice(DATES) if random.random() < 0.3 else random.choice(TEXTS)


def _pattern(random: Random) -> str:
    """Some text of the rows with some of its characters replaced by wild cards and escapes."""
    return "".join(random.choice([one, one, one, "%", "_", "\\"]) for one in random.choice(TEXTS))
