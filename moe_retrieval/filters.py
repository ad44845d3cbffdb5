"""The filter language: text in, a typed tree out. `year >= 2015 and journal = 'BMJ'`.

Nothing here knows SQL: a store translates the tree, over the fields it has, with values it quotes itself.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from moe_retrieval.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CLAUSES = 1_000
MAX_DEPTH = 50

Value = str | float | bool


class Compare(StrEnum):
    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


@dataclass(frozen=True, slots=True)
class Comparison:
    """`field operator value`; a document without the field does not match, whatever the operator."""

    field: str
    operator: Compare
    value: Value


@dataclass(frozen=True, slots=True)
class OneOf:
    """`field in (a, b, c)`: all values are strings, or all are numbers."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`not part`: matches where `part` does not, a missing field included."""

    part: Filter


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Filter, ...]


Filter = Comparison | OneOf | Not | And | Or

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
      | (?P<operator><=|>=|!=|<>|==|=|<|>)
      | (?P<punctuation>[(),])
      | (?P<word>[A-Za-z_][\w.\-]*)
    )""",
    re.VERBOSE,
)
_SPELLINGS = {"==": "=", "<>": "!="}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def parse_filter(text: str) -> Filter:
    """The tree of a filter.

    Fields are names of document metadata; values are 'strings' (a quote is doubled inside), numbers, true and
    false; `=`, `!=`, `<`, `<=`, `>`, `>=`, `in (...)`, `not`, `and`, `or` and parentheses combine them.

    Raises:
        FilterError: the text does not parse; the message shows where.
    """
    return _Parser(text).parse()


def fields_of(tree: Filter) -> frozenset[str]:
    """Names of all fields a filter mentions."""
    if isinstance(tree, Comparison | OneOf):
        return frozenset({tree.field})
    parts = (tree.part,) if isinstance(tree, Not) else tree.parts
    return frozenset().union(*(fields_of(part) for part in parts))


class _Parser:
    """Recursive descent: or < and < not < comparison."""

    def __init__(self, text: str) -> None:
        _check_unicode(text)
        self.text = text
        self.tokens = list(self._tokens(text))
        self.place = 0
        self.clauses = 0

    def parse(self) -> Filter:
        if not self.tokens:
            raise FilterError("the filter is empty", hint="for example: year >= 2015 and journal = 'BMJ'")
        tree = self._either(0)
        if self.place < len(self.tokens):
            raise self._error("expected 'and', 'or' or the end")
        return tree

    def _tokens(self, text: str) -> Iterator[_Token]:
        at, end = 0, len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            if found is None:
                raise FilterError(
                    f"the filter cannot be read at {text[at : at + 20].strip()!r}",
                    hint="strings are quoted with ', fields are plain names",
                )
            kind = str(found.lastgroup)
            yield _Token(kind, found[kind], found.start(kind))
            at = found.end()

    def _error(self, expected: str) -> FilterError:
        if self.place >= len(self.tokens):
            return FilterError(f"the filter ends too early: {expected}", hint="for example: year >= 2015")
        token = self.tokens[self.place]
        return FilterError(
            f"the filter has {token.text!r} at character {token.at + 1}: {expected}",
            hint="for example: year >= 2015 and journal = 'BMJ'",
        )

    def _take(self, kind: str, *texts: str) -> str | None:
        if self.place < len(self.tokens):
            token = self.tokens[self.place]
            if token.kind == kind and (not texts or token.text.lower() in texts):
                self.place += 1
                return token.text
        return None

    def _either(self, depth: int) -> Filter:
        parts = [self._both(depth)]
        while self._take("word", "or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self, depth: int) -> Filter:
        parts = [self._negated(depth)]
        while self._take("word", "and"):
            parts.append(self._negated(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _negated(self, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise FilterError(f"the filter is nested deeper than {MAX_DEPTH} levels", hint="simplify it")
        if self._take("word", "not"):
            return Not(self._negated(depth + 1))
        if self._take("punctuation", "("):
            tree = self._either(depth + 1)
            if not self._take("punctuation", ")"):
                raise self._error("expected ')'")
            return tree
        return self._clause()

    def _clause(self) -> Filter:
        self.clauses += 1
        if self.clauses > MAX_CLAUSES:
            raise FilterError(f"the filter has more than {MAX_CLAUSES} clauses", hint="use field in (...)")
        name = self._take("word")
        if name is None:
            raise self._error("expected the name of a field")
        if self._take("word", "in"):
            return OneOf(name, self._values())
        operator = self._take("operator")
        if operator is None:
            raise self._error("expected =, !=, <, <=, >, >= or in")
        return Comparison(name, Compare(_SPELLINGS.get(operator, operator)), self._value())

    def _values(self) -> tuple[Value, ...]:
        if not self._take("punctuation", "("):
            raise self._error("expected '(' after in")
        values = [self._value()]
        while self._take("punctuation", ","):
            values.append(self._value())
        if not self._take("punctuation", ")"):
            raise self._error("expected ',' or ')'")
        if len({type(value) for value in values}) > 1:
            hint = "quote all of them, or none"
            raise FilterError("the values after 'in' are of different types", hint=hint)
        return tuple(values)

    def _value(self) -> Value:
        if (quoted := self._take("string")) is not None:
            quote = quoted[0]
            return quoted[1:-1].replace(quote * 2, quote)
        if (number := self._take("number")) is not None:
            return _finite(number)
        if (word := self._take("word", "true", "false")) is not None:
            return word.lower() == "true"
        raise self._error("expected a 'string', a number, true or false")


def _check_unicode(text: str) -> None:
    """No lone surrogates: bytes of a terminal that were not UTF-8, which no store can compare with."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"character {error.start + 1} of the filter is not UTF-8"
        raise FilterError(message, hint="type it anew, in UTF-8") from error


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        shown = number if len(number) <= 20 else number[:17] + "..."
        raise FilterError(f"the number {shown} is too large", hint="numbers go up to 1.7e308")
    return value
