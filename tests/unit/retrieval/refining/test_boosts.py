"""Newer documents, or those with a value in a field, come first."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from moe_retrieval.errors import UsageError
from moe_retrieval.retrieval.refining.boosts import Match, Recency, boosted, field_of, parse_boost, year_of
from tests.unit.retrieval.made_hits import made

HITS = [made("old", score=0.9, year=1990), made("new", score=0.8, year=2020), made("none", score=0.1)]


def test_recency_lifts_the_newer_document_by_its_weight_of_the_distance_from_last_to_best() -> None:
    found = boosted(HITS, [Recency("year", half_life=5, weight=0.2)])
    assert [hit.doc_id for hit in found] == ["new", "old", "none"]
    assert found[0].score == pytest.approx(0.7 / 0.8 + 0.2)
    assert found[1].why.boost == pytest.approx(0.2 * 0.5**6)
    assert found[0].why.fused_score == 0.8


def test_a_document_without_the_field_gets_nothing() -> None:
    assert boosted(HITS, [Recency("year", half_life=5)])[-1].why.boost == 0
    assert boosted(HITS, [Match("journal", "BMJ")])[-1].why.boost == 0


def test_a_half_life_halves() -> None:
    values = Recency("year", half_life=10).values([made("a", year=2020), made("b", year=2010)])
    assert values.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("scores", [(-3.0, -4.0), (12.0, 11.0), (0.0, 0.0)])
def test_a_boost_works_whatever_the_sign_and_size_of_scores(scores: tuple[float, float]) -> None:
    hits = [made("a", score=scores[0]), made("b", score=scores[1], open=True)]
    assert boosted(hits, [Match("open", True, 1.5)])[0].doc_id == "b"


def test_a_negative_weight_sets_back() -> None:
    hits = [made("a", score=1.0, kind="editorial"), made("b", score=0.9), made("c", score=0.0)]
    assert boosted(hits, [Match("kind", "editorial", -0.3)])[0].doc_id == "b"


def test_boosts_add_up_and_scores_go_down() -> None:
    hits = [
        made(f"d{n}", score=1 / (n + 1), year=1990 + n, journal="BMJ" if n % 2 else "JAMA") for n in range(9)
    ]
    found = boosted(hits, [Recency("year", 3, 0.5), Match("journal", "BMJ", 0.5)])
    assert all(one.score >= other.score for one, other in pairwise(found))
    assert {hit.doc_id for hit in found} == {hit.doc_id for hit in hits}


@pytest.mark.parametrize(
    ("held", "value", "matches"),
    [
        ("BMJ", "BMJ", True),
        ("BMJ", "bmj", False),
        (2015, "2015", True),
        (2015, 2015.0, True),
        (2015.5, "2015", False),
        (True, "true", True),
        (True, "1", False),
        (["stroke", "aspirin"], "aspirin", True),
        (["stroke"], "strok", False),
        (None, "None", False),
        ("", "nan", False),
    ],
)
def test_what_matches(held: object, value: object, matches: bool) -> None:
    hit = made("a", field=held)  # type: ignore[arg-type]
    assert Match("field", value).values([hit]).tolist() == [float(matches)]  # type: ignore[arg-type]


def test_fields_are_spelled_as_filters_spell_them_and_the_built_in_win() -> None:
    hit = replace(made("a", title="Aspirin"), metadata={"Pub Year": 2015, "title": "another"})
    assert field_of(hit, "pub_year") == 2015
    assert field_of(hit, "title") == "Aspirin"
    assert field_of(hit, "domain") == "cvd"
    assert field_of(hit, "nothing") is None


@pytest.mark.parametrize(
    ("value", "year"),
    [(2015, 2015), (2015.5, 2015.5), ("2015", 2015), ("2015-07-01", 2015.5), ("20150701", 2015.5),
     (20150701, 2015.5), ("2015 Jul", 2015), ("2015-07-01T10:00:00Z", 2015.5), ("2015/16", 2015),
     ("2015-13", 2015), ("2015-00-00", 2015), ("2015-07-99", 2015.5)],
)  # fmt: skip
def test_dates_are_read_as_years(value: float | str, year: float) -> None:
    assert year_of(value) == pytest.approx(year)


@pytest.mark.parametrize("value", [None, "", "soon", True, ["2015"], math.inf, math.nan, "12"])
def test_what_is_no_date_is_not_a_number(value: object) -> None:
    assert math.isnan(year_of(value))  # type: ignore[arg-type]


def test_boosts_as_they_are_written() -> None:
    assert parse_boost("year~5") == Recency("year", 5.0)
    assert parse_boost(" year ~ 2.5 ^ -0.3 ") == Recency("year", 2.5, -0.3)
    assert parse_boost("journal=N Engl J Med^0.5") == Match("journal", "N Engl J Med", 0.5)
    assert parse_boost("note=a=b~c") == Match("note", "a=b~c")
    assert parse_boost("`Pub Year`~5") == Recency("Pub Year", 5.0)
    assert parse_boost("`a``=b`=c^0.5") == Match("a`=b", "c", 0.5)


@pytest.mark.parametrize(
    "text",
    ["", "year", "year~", "year~x", "year~0", "year~-1", "=BMJ", "year~5^0", "year~5^1.2.3", "year~1e999"],
)
def test_a_boost_that_means_nothing_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_boost(text)
    assert "year~5" in raised.value.hint or "journal=BMJ" in raised.value.hint


def test_no_hits_stay_no_hits() -> None:
    assert boosted([], [Match("a", "b")]) == []
