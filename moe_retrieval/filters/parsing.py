"""The filter language: text in, a typed tree out. `year >= 2015 and journal = 'BMJ'`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from moe_retrieval.errors import FilterError
from moe_retrieval.filters.fields import check_order, finite, one_type
from moe_retrieval.filters.tree import (
    MAX_CLAUSES,
    MAX_DEPTH,
    And,
    Compare,
    Comparison,
    IsNull,
    Like,
    Not,
    OneOf,
    Or,
    check_size,
    check_unicode,
    too_deep,
    too_many_clauses,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.filters.tree import Filter, Leaf, Value

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<quoted>`(?:[^`]|``)+`)
      | (?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})(?![\w.\-])
      | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
      | (?P<operator><=|>=|!=|<>|==|=|<|>)
      | (?P<punctuation>[(),])
      | (?P<word>[A-Za-z_][\w.\-]*)
    )""",
    re.VERBOSE,
)
_SPELLINGS = {"==": "=", "<>": "!="}
_EXAMPLE = "for example: year >= 2015 and journal = 'BMJ'"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def parse_filter(text: str) -> Filter:
    """The tree of a filter.

    Fields are names of document metadata, in backticks where they are no plain words. Values are 'strings' (a
    quote is doubled inside), numbers, true, false and days (2015-03-01). Clauses are `=`, `!=`, `<`, `<=`,
    `>`, `>=`, `in (...)`, `like`, `between ... and ...` and `is null`, with `not` before the last four too;
    `not`, `and`, `or` and parentheses combine them.

    Raises:
        FilterError: the text does not parse; the message shows where.
    """
    return _Parser(text).parse()


class _Parser:
    """Recursive descent: or < and < not < clause."""

    def __init__(self, text: str) -> None:
        check_unicode(text)
        self.tokens = list(_tokens(text))
        self.place = 0
        self.clauses = 0

    def parse(self) -> Filter:
        if not self.tokens:
            raise FilterError("the filter is empty", hint=_EXAMPLE)
        tree = self._either(0)
        if self.place < len(self.tokens):
            raise self._error("expected 'and', 'or' or the end")
        check_size(tree)
        return tree

    def _error(self, expected: str) -> FilterError:
        if self.place >= len(self.tokens):
            return FilterError(f"the filter ends too early: {expected}", hint="for example: year >= 2015")
        token = self.tokens[self.place]
        shown = token.text if len(token.text) <= 40 else token.text[:37] + "..."
        return FilterError(f"the filter has {shown!r} at character {token.at + 1}: {expected}", hint=_EXAMPLE)

    def _take(self, kind: str, *texts: str) -> str | None:
        if self.place < len(self.tokens):
            token = self.tokens[self.place]
            if token.kind == kind and (not texts or token.text.lower() in texts):
                self.place += 1
                return token.text
        return None

    def _need(self, kind: str, text: str, expected: str) -> None:
        if not self._take(kind, text):
            raise self._error(expected)

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
            raise too_deep()
        if self._take("word", "not"):
            return Not(self._negated(depth + 1))
        if self._take("punctuation", "("):
            tree = self._either(depth + 1)
            self._need("punctuation", ")", "expected ')'")
            return tree
        return self._clause()

    def _clause(self) -> Filter:
        self.clauses += 1
        if self.clauses > MAX_CLAUSES:
            raise too_many_clauses()
        name = self._name()
        if operator := self._take("operator"):
            compare, value = Compare(_SPELLINGS.get(operator, operator)), self._value()
            check_order(name, compare, value)
            return Comparison(name, compare, value)
        if self._take("word", "is"):
            return self._null(name)
        if self._take("word", "not"):
            return And((Not(IsNull(name)), Not(self._set(name, "expected in, like or between after not"))))
        return self._set(name, "expected =, !=, <, <=, >, >=, in, like, between or is")

    def _name(self) -> str:
        if (quoted := self._take("quoted")) is not None:
            name = quoted[1:-1].replace("``", "`")
        else:
            name = self._take("word") or ""
        if not name.strip():
            raise self._error("expected the name of a field")
        return name

    def _null(self, name: str) -> Filter:
        negated = self._take("word", "not")
        self._need("word", "null", "expected null after is")
        return Not(IsNull(name)) if negated else IsNull(name)

    def _set(self, name: str, expected: str) -> Leaf | And:
        """What follows a name with or without `not`."""
        if self._take("word", "in"):
            return OneOf(name, self._values())
        if self._take("word", "like"):
            return Like(name, self._string("expected a 'pattern' after like"))
        if self._take("word", "between"):
            return self._between(name)
        raise self._error(expected)

    def _between(self, name: str) -> And:
        low = self._value()
        self._need("word", "and", "expected 'and' after the first value of between")
        high = self._value()
        for value in one_type([low, high]):
            check_order(name, Compare.GE, value)
        return And((Comparison(name, Compare.GE, low), Comparison(name, Compare.LE, high)))

    def _values(self) -> tuple[Value, ...]:
        self._need("punctuation", "(", "expected '(' after in")
        if self._take("punctuation", ")"):
            return ()
        values = [self._value()]
        while self._take("punctuation", ","):
            values.append(self._value())
        self._need("punctuation", ")", "expected ',' or ')'")
        return one_type(values)

    def _value(self) -> Value:
        if (number := self._take("number")) is not None:
            return finite(number, shown=number)
        if (day := self._take("date")) is not None:
            return _day(day)
        if (word := self._take("word", "true", "false")) is not None:
            return word.lower() == "true"
        return self._string("expected a 'string', a number, a date, true or false")

    def _string(self, expected: str) -> str:
        if (quoted := self._take("string")) is None:
            raise self._error(expected)
        return quoted[1:-1].replace(quoted[0] * 2, quoted[0])


def _tokens(text: str) -> Iterator[_Token]:
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            raise FilterError(
                f"the filter cannot be read at {text[at : at + 20].strip()!r}",
                hint="strings stand in ', with '' for a ' inside; fields are plain names, others stand in `",
            )
        kind = str(found.lastgroup)
        yield _Token(kind, found[kind], found.start(kind))
        at = found.end()


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise FilterError(f"{text} is no day", hint="dates are written year-month-day: 2015-03-01") from error
