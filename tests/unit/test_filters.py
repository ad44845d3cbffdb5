"""The filter language: every text gives a tree or a FilterError, and the tree says what the text says."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_retrieval.errors import FilterError
from moe_retrieval.filters import (
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
    fields_of,
    parse_filter,
)

WORDS = ["and", "or", "not", "in", "like", "is", "null", "between", "true", "AND", "year", "mesh-term", "_x"]
MARKS = ["(", ")", ",", "=", "==", "!=", "<>", "<", "<=", ">", ">=", "'", '"', "''", "`", " ", "\t", "\n"]
VALUES = [
    "1",
    "-2.5",
    "+.5",
    "1e3",
    "1e",
    "2015x",
    "'BMJ'",
    "2015-03-01",
    "2015-13-01",
    "`a b`",
    "é",
    "²",
    "\x00",
]
VALUES += ['"it\'s"', "'it''s'", "\ud800", "'%\\'"]

NAMES = st.from_regex(r"[a-z_][a-z0-9_.\-]{0,8}", fullmatch=True) | st.text(min_size=1, max_size=6).filter(
    str.strip
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
ORDERED = st.text(max_size=12) | NUMBERS | st.dates()


def equal(field: str, value: Value) -> Comparison:
    return Comparison(field, Compare.EQ, value)


def quoted(text: str, quote: str = "'") -> str:
    return quote + text.replace(quote, quote * 2) + quote


LEAVES = (
    st.builds(Comparison, NAMES, st.sampled_from(Compare), ORDERED)
    | st.builds(Comparison, NAMES, st.sampled_from([Compare.EQ, Compare.NE]), st.booleans())
    | st.builds(
        OneOf,
        NAMES,
        st.one_of(st.lists(kind, max_size=3).map(tuple) for kind in (st.text(), NUMBERS, st.dates())),
    )
    | st.builds(Like, NAMES, st.text(max_size=12))
    | st.builds(IsNull, NAMES)
)
TREES = st.recursive(
    LEAVES,
    lambda part: (
        st.builds(Not, part)
        | st.builds(And, st.lists(part, min_size=2, max_size=3).map(tuple))
        | st.builds(Or, st.lists(part, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=60))
def test_any_text_parses_or_is_a_filter_error(text: str) -> None:
    try:
        parse_filter(text)
    except FilterError as error:
        assert error.exit_code == 2


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(WORDS + MARKS + VALUES), max_size=30), st.sampled_from(["", " "]))
def test_any_row_of_the_language_s_own_words_parses_or_is_a_filter_error(parts: list[str], gap: str) -> None:
    try:
        parse_filter(gap.join(parts))
    except FilterError as error:
        assert error.hint


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_a_written_tree_is_read_back(tree: Filter) -> None:
    assert parse_filter(str(tree)) == tree


@settings(deadline=None)
@given(st.text(), st.sampled_from("'\""))
def test_a_quoted_string_is_read_back(text: str, quote: str) -> None:
    assert parse_filter(f"title = {quoted(text, quote)}") == equal("title", text)


@settings(deadline=None)
@given(NUMBERS)
def test_a_number_is_read_back(number: float) -> None:
    assert parse_filter(f"n = {number!r}") == equal("n", number)


@pytest.mark.parametrize("spelling", ["=", "=="])
def test_both_spellings_of_equal_are_one_operator(spelling: str) -> None:
    assert parse_filter(f"year {spelling} 2015") == equal("year", 2015.0)


@pytest.mark.parametrize("spelling", ["!=", "<>"])
def test_both_spellings_of_unequal_are_one_operator(spelling: str) -> None:
    assert parse_filter(f"year {spelling} 2015") == Comparison("year", Compare.NE, 2015.0)


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">="])
def test_an_order_operator_is_kept(operator: str) -> None:
    assert parse_filter(f"year{operator}2015") == Comparison("year", Compare(operator), 2015.0)


def test_and_binds_more_tightly_than_or() -> None:
    assert parse_filter("a = 1 or b = 2 and c = 3") == Or(
        (equal("a", 1.0), And((equal("b", 2.0), equal("c", 3.0))))
    )


def test_not_binds_more_tightly_than_and() -> None:
    assert parse_filter("not a = 1 and b = 2") == And((Not(equal("a", 1.0)), equal("b", 2.0)))


def test_parentheses_override_precedence() -> None:
    assert parse_filter("(a = 1 or b = 2) and c = 3") == And(
        (Or((equal("a", 1.0), equal("b", 2.0))), equal("c", 3.0))
    )


@pytest.mark.parametrize("text", ["A = 1 AND b IN (1)", "A = 1 And b In (1)"])
def test_key_words_have_no_case(text: str) -> None:
    assert parse_filter(text) == And((equal("A", 1.0), OneOf("b", (1.0,))))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a like '50\\%'", Like("a", "50\\%")),
        ("a is null", IsNull("a")),
        ("a is not null", Not(IsNull("a"))),
        ("a in ()", OneOf("a", ())),
        ("day = 2015-03-01", equal("day", date(2015, 3, 1))),
        ("day in (2015-03-01)", OneOf("day", (date(2015, 3, 1),))),
        ("`Pub ``Year` = 1", equal("Pub `Year", 1.0)),
        ("`in` in (1)", OneOf("in", (1.0,))),
    ],
)
def test_each_clause_has_its_own_kind_of_leaf(text: str, tree: Filter) -> None:
    assert parse_filter(text) == tree


def test_between_holds_both_its_ends() -> None:
    low, high = Comparison("a", Compare.GE, 1.0), Comparison("a", Compare.LE, 2.0)
    assert parse_filter("a between 1 and 2 and b = 3") == And((And((low, high)), equal("b", 3.0)))


@pytest.mark.parametrize(
    ("text", "leaf"), [("a not in (1)", OneOf("a", (1.0,))), ("a not like 'x'", Like("a", "x"))]
)
def test_not_inside_a_clause_wants_the_field_as_unequal_does(text: str, leaf: Filter) -> None:
    assert parse_filter(text) == And((Not(IsNull("a")), Not(leaf)))


def test_a_quoted_number_is_a_string() -> None:
    assert parse_filter("year = '2015'") == equal("year", "2015")


def test_a_quoted_true_is_a_string() -> None:
    assert parse_filter("open = 'true'") == equal("open", "true")


def test_true_is_a_truth_value() -> None:
    assert parse_filter("open = TRUE") == equal("open", True)


def test_key_words_inside_a_string_are_text() -> None:
    assert parse_filter("title = 'x or (not y)'") == equal("title", "x or (not y)")


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_an_empty_filter_is_an_error_with_an_example(text: str) -> None:
    with pytest.raises(FilterError, match=r"empty; for example: year >= 2015"):
        parse_filter(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("year >", "ends too early: expected a 'string'"),
        ("year", "ends too early: expected =, !="),
        ("(year > 1", r"ends too early: expected '\)'"),
        ("year in 3", r"has '3' at character 9: expected '\(' after in"),
        ("year in (3", r"ends too early: expected ',' or '\)'"),
        ("year in (,)", r"has ',' at character 10: expected a 'string'"),
        ("year like 3", "has '3' at character 11: expected a 'pattern' after like"),
        ("year is 3", "has '3' at character 9: expected null after is"),
        ("year is not", "ends too early: expected null after is"),
        ("year not = 3", "has '=' at character 10: expected in, like or between after not"),
        ("year between 1", "ends too early: expected 'and' after the first value of between"),
        ("``  = 3", "cannot be read at '``"),
        ("` ` = 3", "has '=' at character 5: expected the name of a field"),
        ("year = 2015-13-01", "2015-13-01 is no day; dates are written year-month-day"),
        ("year > true", "year > true or false has no meaning; use = or !="),
        ("year = 1 journal = 2", "has 'journal' at character 10: expected 'and', 'or' or the end"),
        ("year = 1)", r"has '\)' at character 9: expected 'and', 'or' or the end"),
        ("year = BMJ", "has 'BMJ' at character 8: expected a 'string'"),
        ("= 3", "has '=' at character 1: expected the name of a field"),
        ("'year' = 3", "at character 1: expected the name of a field"),
        ("year = 'BMJ", 'cannot be read at "\'BMJ"'),
        ("year = 2015x", "cannot be read at '2015x'"),
        ("year = 1.5.2", r"cannot be read at '1\.5\.2'"),
        ("year ; drop", "cannot be read at '; drop'"),
    ],
)
def test_a_message_shows_where_reading_stopped(text: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        parse_filter(text)


@pytest.mark.parametrize(
    "text",
    [
        "a in (1, 'x')",
        "a in (true, 1)",
        "a in ('x', false)",
        "a in (2015-03-01, '2015')",
        "a between 1 and 'b'",
    ],
)
def test_values_of_different_types_after_in_are_an_error(text: str) -> None:
    with pytest.raises(FilterError, match="different types"):
        parse_filter(text)


@pytest.mark.parametrize("text", ["a = '\ud800'", 'a = "x\udfff"', "a\udcff = 1", "a = 1 \udcff"])
def test_text_that_is_not_unicode_is_a_filter_error(text: str) -> None:
    with pytest.raises(FilterError, match=r"character \d+ .* is not UTF-8") as caught:
        parse_filter(text)
    assert str(caught.value).encode()


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400, "1.8e308"])
@pytest.mark.parametrize("text", ["a = {}", "a in (1, {})"])
def test_a_number_beyond_all_numbers_is_a_filter_error(text: str, number: str) -> None:
    with pytest.raises(FilterError, match=r"the number -?[\d.e]{5,20}(\.\.\.)? is too large") as caught:
        parse_filter(text.format(number))
    assert len(caught.value.message) < 60


@pytest.mark.parametrize("opening", ["(", "not "])
def test_the_deepest_nesting_allowed_parses(opening: str) -> None:
    closing = ")" if opening == "(" else ""
    inner = parse_filter(opening * MAX_DEPTH + "a = 1" + closing * MAX_DEPTH)
    while isinstance(inner, Not):
        inner = inner.part
    assert inner == parse_filter("a = 1")


@pytest.mark.parametrize("opening", ["(", "not ", "not ("])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_deeper_nesting_is_a_filter_error(opening: str, depth: int) -> None:
    with pytest.raises(FilterError, match="nested deeper"):
        parse_filter(opening * depth + "a = 1")


@pytest.mark.parametrize("word", ["and", "or"])
def test_too_many_clauses_are_a_filter_error(word: str) -> None:
    with pytest.raises(FilterError, match=r"more than 1000 clauses; use field in"):
        parse_filter(f" {word} ".join(["a = 1"] * (MAX_CLAUSES + 1)))


def test_the_largest_number_of_clauses_parses() -> None:
    assert parse_filter(" or ".join(["a = 1"] * MAX_CLAUSES)) == Or((equal("a", 1.0),) * MAX_CLAUSES)


def test_too_many_values_are_a_filter_error() -> None:
    with pytest.raises(FilterError, match=r"lists 10,001 values after 'in'; list at most 10,000"):
        parse_filter(f"a in ({','.join(['1'] * (MAX_VALUES + 1))})")


def test_too_long_a_pattern_is_a_filter_error() -> None:
    with pytest.raises(
        FilterError, match=r"the pattern for a has 1,001 characters; patterns have at most 1,000"
    ):
        parse_filter(f"a like '{'x' * (MAX_PATTERN + 1)}'")


def test_an_unclosed_string_of_many_quotes_is_refused_at_once() -> None:
    with pytest.raises(FilterError):
        parse_filter("a = '" + "''" * 50_000 + '"')


@settings(max_examples=30, deadline=None)
@given(TREES)
def test_fields_of_a_tree_are_all_those_it_mentions(tree: Filter) -> None:
    def mentioned(part: Filter) -> set[str]:
        match part:
            case Comparison(name) | OneOf(name) | Like(name) | IsNull(name):
                return {name}
            case Not(inner):
                return mentioned(inner)
            case And(parts) | Or(parts):
                return {name for inner in parts for name in mentioned(inner)}

    assert fields_of(tree) == mentioned(tree)
