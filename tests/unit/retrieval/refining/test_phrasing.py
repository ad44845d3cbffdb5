"""A question in several phrasings is one ranking."""

from __future__ import annotations

import pytest

from moe_retrieval.retrieval.refining.phrasing import MOST, distinct, joined
from tests.unit.retrieval.made_hits import made


def test_what_two_phrasings_find_is_better_than_what_one_finds_first() -> None:
    one = [made("only", score=0.9), made("both", score=0.8)]
    other = [made("both", score=0.3), made("else", score=0.2)]
    found = joined([one, other])
    assert [hit.doc_id for hit in found] == ["both", "only", "else"]
    assert found[0].score == pytest.approx(1 / 62 + 1 / 61)


def test_a_hit_says_its_rank_under_each_phrasing_and_its_score_before() -> None:
    found = joined([[made("a", score=0.9)], [made("b"), made("a", score=0.1)], []])
    why = {hit.doc_id: hit.why for hit in found}
    assert why["a"].phrasing_ranks == (1, 2, None)
    assert why["a"].fused_score == 0.9
    assert why["b"].phrasing_ranks == (None, 1, None)


def test_one_phrasing_is_left_as_it_is() -> None:
    hits = [made("b", score=0.2), made("a", score=0.1)]
    assert joined([hits]) == hits


def test_the_same_chunk_in_two_domains_is_two_places() -> None:
    assert len(joined([[made("a", domain="cvd")], [made("a", domain="pain")]])) == 2


def test_equals_are_in_the_order_of_their_places_whatever_the_order_of_phrasings() -> None:
    one, other = [made("a")], [made("b")]
    names = [[hit.doc_id for hit in joined(lists)] for lists in ([one, other], [other, one])]
    assert names[0] == names[1]


def test_blank_and_repeated_phrasings_are_left_out() -> None:
    assert distinct("stroke", ["  ", "stroke", "apoplexy", "apoplexy"]) == ("stroke", "apoplexy")


def test_only_so_many_phrasings_are_searched() -> None:
    given = distinct("stroke", [f"stroke {n}" for n in range(100)])
    assert len(given) == MOST
    assert given[0] == "stroke"
