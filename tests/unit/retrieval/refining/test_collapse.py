"""One document under several domains is one hit."""

from __future__ import annotations

from moe_retrieval.retrieval.refining.collapse import collapse, copies, first_of_each
from tests.unit.retrieval.made_hits import made

LONG = "aspirin lowers the risk of a second stroke"


def test_the_best_copy_of_a_chunk_stays_and_names_the_domains_of_the_others() -> None:
    hits = [made("a", domain="cvd", score=3), made("b", domain="cvd"), made("a", domain="pain", score=1)]
    kept = collapse(hits)
    assert [(hit.doc_id, hit.domain, hit.score) for hit in kept] == [("a", "cvd", 3), ("b", "cvd", 1)]
    assert kept[0].why.copies == ("pain",)
    assert kept[1].why.copies == ()


def test_a_domain_that_holds_several_copies_is_named_once() -> None:
    hits = [made("a", LONG), *(made("a", LONG, domain=name) for name in ("pain", "skin", "pain"))]
    assert collapse(hits)[0].why.copies == ("pain", "skin")


def test_the_same_passage_cut_differently_is_a_copy() -> None:
    hits = [made("a", LONG, ordinal=0), made("a", LONG[10:], ordinal=1, start=10, domain="pain")]
    assert len(collapse(hits)) == 1


def test_passages_that_overlap_a_little_are_two_hits() -> None:
    hits = [made("a", LONG), made("a", LONG, ordinal=1, start=len(LONG) - 5, domain="pain")]
    assert len(collapse(hits)) == 2


def test_two_chunks_of_one_domain_are_never_copies() -> None:
    assert len(collapse([made("a", LONG), made("a", LONG, ordinal=1, start=3)])) == 2


def test_documents_of_two_sources_with_one_id_are_two_documents() -> None:
    from dataclasses import replace

    assert len(collapse([made("a"), replace(made("a", domain="pain"), source="elsewhere")])) == 2


def test_of_a_key_the_first_place_stays() -> None:
    places = [("pain", 7), ("cvd", 9), ("cvd", 7), ("skin", 8)]
    assert first_of_each(places) == [("pain", 7), ("cvd", 9), ("skin", 8)]
    assert copies(places) == {7: ("pain", "cvd")}
