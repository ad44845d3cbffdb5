"""A filter matches in SQL exactly what it matches when read plainly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from filter_fuzz import means
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storage_builders import DIM, rows_of, unit_vectors

from moe_retrieval.errors import FilterError
from moe_retrieval.filters import (
    MAX_PATTERN,
    MAX_VALUES,
    And,
    Compare,
    Comparison,
    Filter,
    Like,
    Not,
    OneOf,
    Or,
    parse_filter,
)
from moe_retrieval.storage.store import Store
from moe_retrieval.storage.tables.kinds import Kind
from moe_retrieval.storage.tables.predicates import literal, to_sql
from moe_retrieval.storage.tables.rows import to_batch
from moe_retrieval.storage.tables.view import TableView

if TYPE_CHECKING:
    from moe_retrieval.types import MetaValue

HOSTILE = ["x' OR '1'='1", "\\' OR 1=1 --", "'; drop table t", '"', "", "\0", "é\n😀", "%", "a'b''c"]
WORDS = ["BMJ", "bmj", "Lancet", *HOSTILE]
NUMBERS = [0.0, -1.5, 2015.0, 1e300, -1e300, 3e-7]

META: list[dict[str, MetaValue]] = [
    {},
    *({"s": word, "n": NUMBERS[at % 6], "b": at % 2 == 0} for at, word in enumerate(WORDS)),
    *({"l": [word, "BMJ"]} for word in WORDS[2:]),
    {"l": []},
    {"n": "2015", "s": 2015.0, "b": "true", "l": "BMJ"},
    {"n": True, "s": ["BMJ"], "b": 1},
    {"n": ["BMJ"], "s": True, "b": ["BMJ"], "l": 2015.0},
    {"l": True},
]


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> TableView:
    store = Store.open(tmp_path_factory.mktemp("predicates") / "store", create=True, durable=False)
    table = store.create_table("cvd", dim=DIM, fingerprint="space-one")
    rows = [rows_of(f"d{at}", ["text"], title=f"T{at}", metadata=meta)[0] for at, meta in enumerate(META)]
    table.write(to_batch(rows, unit_vectors(len(rows))))
    return TableView(store.place, name=table.name, version=table.version)


def matched(view: TableView, tree: Filter) -> list[int]:
    keys = view.matching(tree, known=["elsewhere"])
    return sorted(int(row["doc_id"][1:]) for row in view.fetch(keys, columns=["doc_id"]).to_pylist())


comparisons = st.one_of(
    st.builds(
        Comparison,
        st.sampled_from(["s", "l", "n", "b", "elsewhere"]),
        st.sampled_from(list(Compare)),
        st.sampled_from([*WORDS, *NUMBERS]),
    ),
    st.builds(
        Comparison, st.sampled_from(["b", "n", "s"]), st.sampled_from([Compare.EQ, Compare.NE]), st.booleans()
    ),
    st.builds(
        OneOf,
        st.sampled_from(["s", "l", "n", "b"]),
        st.lists(st.sampled_from([*WORDS, *NUMBERS, True, False]), max_size=4).map(tuple),
    ),
)
trees = st.recursive(
    comparisons,
    lambda part: st.one_of(
        st.builds(Not, part),
        st.builds(And, st.lists(part, max_size=4).map(tuple)),
        st.builds(Or, st.lists(part, max_size=4).map(tuple)),
    ),
    max_leaves=12,
)


@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(tree=trees)
def test_sql_matches_what_the_tree_means(view: TableView, tree: Filter) -> None:
    assert matched(view, tree) == [at for at, meta in enumerate(META) if means(tree, meta)]


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_no_string_can_leave_its_literal(view: TableView, text: str) -> None:
    tree = Or((Comparison("s", Compare.EQ, text), Comparison("l", Compare.EQ, text)))
    assert matched(view, tree) == [at for at, meta in enumerate(META) if means(tree, meta)]


def test_fields_every_document_has_can_be_filtered_by(view: TableView) -> None:
    assert matched(view, parse_filter("title = 'T3' or doc_id = 'd5' or source = '/corpus/d7.txt'")) == [
        3,
        5,
        7,
    ]
    assert matched(view, parse_filter("page >= 1 or not section = ''")) == []


def test_an_unknown_field_is_an_error_that_suggests_the_right_one(view: TableView) -> None:
    with pytest.raises(FilterError, match=r"no document has the field 'titel'.*did you mean 'title'"):
        view.matching(parse_filter("titel = 'x'"))


def test_a_field_only_another_domain_has_matches_nothing_here(view: TableView) -> None:
    assert matched(view, parse_filter("elsewhere = 'x'")) == []
    assert len(matched(view, parse_filter("not elsewhere = 'x'"))) == len(META)


def test_field_names_are_spelt_as_liberally_as_metadata_is(view: TableView) -> None:
    assert matched(view, parse_filter("N = 2015")) == matched(view, parse_filter("n = 2015"))


@pytest.mark.parametrize("joint", ["and", "or"])
def test_a_thousand_clauses_are_not_too_many(view: TableView, joint: str) -> None:
    text = f" {joint} ".join(f"n != {at}.25" for at in range(1_000))
    tree = parse_filter(text)
    assert matched(view, tree) == [at for at, meta in enumerate(META) if means(tree, meta)]


def test_the_deepest_filter_that_parses_can_be_applied(view: TableView) -> None:
    text = "n > 0"
    for depth in range(24):
        text = (
            f"(not ({text} and s != 'zz') or b = true)" if depth % 2 else f"({text} or b = false and n < 5)"
        )
    parsed = parse_filter(text)
    assert matched(view, parsed) == [at for at, meta in enumerate(META) if means(parsed, meta)]


def test_a_filter_nested_beyond_what_the_engine_reads_is_refused_in_words(view: TableView) -> None:
    tree: Filter = Comparison("n", Compare.GT, 0.0)
    other = Comparison("b", Compare.EQ, True)
    for depth in range(200):
        tree = And((tree, other)) if depth % 2 else Or((tree, other))
    with pytest.raises(FilterError, match=r"nested (too deeply|deeper)"):
        view.matching(tree)


def test_values_without_a_meaning_are_refused() -> None:
    with pytest.raises(FilterError, match="finite"):
        literal(float("inf"))
    with pytest.raises(FilterError, match="no meaning"):
        to_sql(Comparison("b", Compare.LT, True), ["b_b"])


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("year = '2015'", r"the field 'year' holds numbers, and '2015' is text; compare it with a number"),
        ("year in (true)", r"holds numbers, and true is a truth value"),
        ("year >= 2015-03-01", r"holds numbers, and 2015-03-01 is a date"),
        ("Journal = 5", r"the field 'Journal' holds text, and 5 is a number; quote the value"),
        (
            "open > 'x'",
            r"the field 'open' holds true or false, and 'x' is text; compare it with true or false",
        ),
        ("mesh < 'x'", r"the field 'mesh' holds lists, which have no order; use =, !=, in or like"),
        ("page like '1%'", r"the field 'page' holds numbers, which no pattern fits"),
        ("doc_id in (1, 2)", r"the field 'doc_id' holds text, and 1 is a number"),
    ],
)
def test_a_value_of_a_kind_that_no_document_has_is_an_error(tree: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        to_sql(parse_filter(tree), ["n_year", "s_journal", "b_open", "l_mesh"])


def test_a_kind_that_another_table_has_is_no_error() -> None:
    known = {"year": frozenset({Kind.TEXT}), "elsewhere": frozenset({Kind.NUMBER})}
    assert to_sql(parse_filter("year = '2015'"), ["n_year"], known=known) == "(false)"
    assert to_sql(parse_filter("year = '2015'"), ["n_year"], known=["year"]) == "(false)"
    with pytest.raises(FilterError, match="'elsewhere' holds numbers, and 'x' is text"):
        to_sql(parse_filter("elsewhere = 'x'"), ["n_year"], known=known)


def test_the_longest_patterns_can_be_applied(view: TableView) -> None:
    for name in ("s", "l"):
        for pattern in ("_" * MAX_PATTERN, "%a" * (MAX_PATTERN // 2), "\U0001f600" * MAX_PATTERN):
            assert matched(view, Like(name, pattern)) == []


def test_the_longest_list_of_values_can_be_applied(view: TableView) -> None:
    values = tuple(f"no such {at}" for at in range(MAX_VALUES - 1))
    expected = [at for at, meta in enumerate(META) if means(Comparison("l", Compare.EQ, "BMJ"), meta)]
    assert matched(view, OneOf("l", (*values, "BMJ"))) == expected


def test_an_empty_title_counts_as_none(view: TableView) -> None:
    assert matched(view, parse_filter("title is null or section is not null")) == []
    assert len(matched(view, parse_filter("page is null and section is null"))) == len(META)


def test_a_batch_of_queries_applies_its_filter_once(view: TableView) -> None:
    tree = parse_filter("n > 0")
    assert view.matching(tree, known=["elsewhere"]) is view.matching(
        parse_filter("n > 0"), known=["elsewhere"]
    )
    assert len(view.matching(parse_filter("n < 0"))) != len(view.matching(tree))
