"""A filter matches in SQL exactly what it matches when read plainly."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storage_builders import DIM, rows_of, unit_vectors

from moe_retrieval.errors import FilterError
from moe_retrieval.filters import And, Compare, Comparison, Filter, Not, OneOf, Or, parse_filter
from moe_retrieval.storage.predicates import literal, to_sql
from moe_retrieval.storage.rows import to_batch
from moe_retrieval.storage.store import Store
from moe_retrieval.storage.view import TableView

if TYPE_CHECKING:
    from collections.abc import Mapping

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
]
ORDER: Mapping[Compare, Any] = {
    Compare.EQ: operator.eq,
    Compare.NE: operator.ne,
    Compare.LT: operator.lt,
    Compare.LE: operator.le,
    Compare.GT: operator.gt,
    Compare.GE: operator.ge,
}


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


def same_kind(one: MetaValue, other: MetaValue) -> bool:
    kinds = [
        bool if isinstance(value, bool) else str if isinstance(value, str) else float
        for value in (one, other)
    ]
    return kinds[0] is kinds[1]


def plainly(tree: Filter, meta: Mapping[str, MetaValue]) -> bool:
    """What a filter means, said without SQL."""
    match tree:
        case Not(part):
            return not plainly(part, meta)
        case And(parts):
            return all(plainly(part, meta) for part in parts)
        case Or(parts):
            return any(plainly(part, meta) for part in parts)
        case OneOf(name, values):
            return any(plainly(Comparison(name, Compare.EQ, value), meta) for value in values)
        case Comparison(name, compare, value):
            stored = meta.get(name)
            if isinstance(stored, list):
                member = value in stored if isinstance(value, str) else False
                return (
                    member
                    if compare is Compare.EQ
                    else isinstance(value, str) and compare is Compare.NE and not member
                )
            return stored is not None and same_kind(stored, value) and bool(ORDER[compare](stored, value))


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
    assert matched(view, tree) == [at for at, meta in enumerate(META) if plainly(tree, meta)]


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_no_string_can_leave_its_literal(view: TableView, text: str) -> None:
    tree = Or((Comparison("s", Compare.EQ, text), Comparison("l", Compare.EQ, text)))
    assert matched(view, tree) == [at for at, meta in enumerate(META) if plainly(tree, meta)]


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
    assert matched(view, tree) == [at for at, meta in enumerate(META) if plainly(tree, meta)]


def test_the_deepest_filter_that_parses_can_be_applied(view: TableView) -> None:
    text = "n > 0"
    for depth in range(24):
        text = (
            f"(not ({text} and s != 'zz') or b = true)" if depth % 2 else f"({text} or b = false and n < 5)"
        )
    parsed = parse_filter(text)
    assert matched(view, parsed) == [at for at, meta in enumerate(META) if plainly(parsed, meta)]


def test_a_filter_nested_beyond_what_the_engine_reads_is_refused_in_words(view: TableView) -> None:
    tree: Filter = Comparison("n", Compare.GT, 0.0)
    other = Comparison("b", Compare.EQ, True)
    for depth in range(200):
        tree = And((tree, other)) if depth % 2 else Or((tree, other))
    with pytest.raises(FilterError, match="nested too deeply"):
        view.matching(tree)


def test_values_without_a_meaning_are_refused() -> None:
    with pytest.raises(FilterError, match="finite"):
        literal(float("inf"))
    with pytest.raises(FilterError, match="no meaning"):
        to_sql(Comparison("b", Compare.LT, True), ["b_b"])
