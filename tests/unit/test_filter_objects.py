"""Filters built as Python objects are the trees that their texts give."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from moe_retrieval.errors import FilterError
from moe_retrieval.filters import And, Comparison, Field, Filter, IsNull, Not, Or, check_size, parse_filter

year, journal = Field("year"), Field("journal")


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (year == 2015, "year = 2015"),
        (year != 2015, "year != 2015"),
        (year < 2015, "year < 2015"),
        (year <= 2015, "year <= 2015"),
        (year > 2015, "year > 2015"),
        (year >= 2015, "year >= 2015"),
        (year.between(2000, 2015), "year between 2000 and 2015"),
        (year.in_([2000, 2015]), "year in (2000, 2015)"),
        (year.not_in([2000]), "year not in (2000)"),
        (journal.like(r"50\%_%"), r"journal like '50\%_%'"),
        (journal.not_like("B%"), "journal not like 'B%'"),
        (journal.is_null(), "journal is null"),
        (journal.is_not_null(), "journal is not null"),
        (Field("day") >= date(2015, 3, 1), "day >= 2015-03-01"),
        (Field("Pub Year") == 1, "`Pub Year` = 1"),
        ((year > 1) & (year < 3) & (journal == "it's"), "year > 1 and year < 3 and journal = 'it''s'"),
        ((year > 1) | (year < 3) & ~(journal == "x"), "year > 1 or year < 3 and not journal = 'x'"),
        (~((year > 1) | (year < 3)), "not (year > 1 or year < 3)"),
        (journal == True, "journal = true"),  # noqa: E712
    ],
)
def test_an_expression_is_the_tree_of_its_text(tree: Filter, text: str) -> None:
    assert tree == parse_filter(text)
    assert parse_filter(str(tree)) == tree


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (And(()), "not doc_id in ()"),
        (Or(()), "doc_id in ()"),
        (Not(And(())), "not not doc_id in ()"),
        (And((Field("year") == 1, Or(()))), "year = 1 and doc_id in ()"),
        (And((Or((Field("year") == 1,)), Field("year") == 2)), "year = 1 and year = 2"),
    ],
)
def test_a_filter_that_a_program_joined_from_no_clauses_can_be_written_and_read(
    tree: Filter, text: str
) -> None:
    assert str(tree) == text
    assert str(parse_filter(text)) == text


def test_not_twice_is_the_filter_itself() -> None:
    assert ~~(year == 1) == (year == 1)


@pytest.mark.parametrize("value", [np.int64(2015), np.float32(2015), 2015])
def test_numbers_of_numpy_are_numbers(value: object) -> None:
    tree = year == value
    assert isinstance(tree, Comparison)
    assert type(tree.value) is float


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"compared with None; use is_null\(\)"),
        (datetime(2015, 3, 1, tzinfo=UTC), r"use \.date\(\)"),
        (b"x", "compared with b'x'; use text, a number"),
        (float("nan"), r"a number that is none \(NaN\)"),
        (10**400, "is too large"),
        ("\ud800", "is not UTF-8"),
    ],
)
def test_a_value_no_field_can_hold_is_a_filter_error(value: object, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        _ = year == value


def test_one_string_is_no_list_of_values() -> None:
    with pytest.raises(
        FilterError, match=r"in_ takes a list, not one string; Field\('journal'\)\.in_\(\['BMJ'\]\)"
    ):
        journal.in_("BMJ")


def test_a_field_needs_a_name() -> None:
    with pytest.raises(FilterError, match="a field has no name"):
        Field(" ")


def test_python_s_own_and_is_refused_rather_than_misread() -> None:
    with pytest.raises(FilterError, match=r"neither true nor false; join filters with &"):
        _ = (year > 1) and (year < 3)
    with pytest.raises(FilterError, match="neither true nor false"):
        _ = 1 < year < 3


def test_a_filter_cannot_be_joined_with_a_text() -> None:
    with pytest.raises(FilterError, match="cannot be joined with 'year < 3'; parse texts with parse_filter"):
        _ = (year > 1) & "year < 3"  # type: ignore[operator]


def test_a_tree_that_a_program_nested_without_end_is_refused_in_words() -> None:
    tree: Filter = IsNull("a")
    for _ in range(100_000):
        tree = Not(tree)
    with pytest.raises(FilterError, match="nested deeper than 50 levels"):
        check_size(tree)
    with pytest.raises(FilterError, match="nested deeper"):
        str(tree)
    while isinstance(tree, Not):  # taken apart by hand: Python's own way is a recursion
        tree = tree.part
