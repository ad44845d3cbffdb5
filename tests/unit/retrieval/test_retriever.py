"""Querying: routed, filtered, from one generation, nothing written is missed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_retrieval import Document, Encoder, Indexer, Retriever, Store
from moe_retrieval.errors import FilterError, NothingFoundError, UnknownDomainError, UsageError
from moe_retrieval.filters import Field
from moe_retrieval.types import Mode

HEART = [
    Document(
        f"h{n}", f"heart attack artery blood pressure {n}", metadata={"year": 2000 + n, "journal": "BMJ"}
    )
    for n in range(15)
]
SKIN = [
    Document(f"s{n}", f"mole melanoma skin sun lesion {n}", metadata={"year": 2000 + n, "open": n % 2 == 0})
    for n in range(15)
]


@pytest.fixture
def retriever(store: Store, indexer: Indexer, encoder: Encoder) -> Retriever:
    indexer.index(HEART, domain="cvd")
    indexer.index(SKIN, domain="skin")
    return Retriever(store, encoder=encoder)


def test_vector_hits_are_those_of_an_exact_search(retriever: Retriever, encoder: Encoder) -> None:
    hits = retriever.query("melanoma of the skin", mode="vector", domains=["skin"], k=15).hits
    vectors = encoder.encode_document([document.text for document in SKIN], domain="skin")
    scores = vectors @ encoder.encode_query(["melanoma of the skin"], domain="skin")[0]
    exact = [SKIN[place].id for place in np.argsort(-scores, kind="stable")]
    assert [hit.doc_id for hit in hits] == exact
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1], atol=1e-5)


def test_text_hits_hold_a_word_of_the_query(retriever: Retriever) -> None:
    hits = retriever.query("melanoma", mode="text", domains=["cvd", "skin"], k=50).hits
    assert len(hits) == 15
    assert all("melanoma" in hit.text for hit in hits)


def test_hybrid_hits_say_how_they_came_to_their_place(retriever: Retriever) -> None:
    best = retriever.query("mole melanoma skin sun lesion 3", domains=["skin"]).hits[0]
    assert best.doc_id == "s3"
    assert best.why.text_rank == 1
    assert best.why.vector_rank is not None


def test_a_routed_query_finds_its_domain(retriever: Retriever) -> None:
    answer = retriever.query("heart attack artery blood pressure 4")
    assert answer.routes[0].domain == "cvd"
    assert answer.hits[0].doc_id == "h4"


def test_ranks_count_up_and_scores_go_down(retriever: Retriever) -> None:
    hits = retriever.query("heart sun", domains=["cvd", "skin"], k=12).hits
    assert [hit.rank for hit in hits] == list(range(1, 13))
    assert all(one.score >= other.score for one, other in pairwise(hits))


@pytest.mark.parametrize("mode", list(Mode))
def test_a_filter_holds_in_every_mode_and_still_gives_k_hits(retriever: Retriever, mode: Mode) -> None:
    hits = retriever.query(
        "heart attack", mode=mode, domains=["cvd"], k=5, where="year >= 2008 and journal = 'BMJ'"
    ).hits
    assert len(hits) == 5
    assert all(hit.metadata["year"] >= 2008 for hit in hits)


def test_a_field_of_one_domain_matches_nothing_in_another(retriever: Retriever) -> None:
    hits = retriever.query("heart skin", domains=["cvd", "skin"], k=50, where="open = true").hits
    assert {hit.domain for hit in hits} == {"skin"}


def test_a_filter_that_nothing_matches_gives_no_hits(retriever: Retriever) -> None:
    assert retriever.query("heart", domains=["cvd"], where="year > 3000").hits == ()


def test_an_unknown_field_is_refused(retriever: Retriever) -> None:
    with pytest.raises(FilterError, match="did you mean 'journal'"):
        retriever.query("heart", where="jornal = 'BMJ'")


@pytest.mark.parametrize("where", [Field("year"), {"year": 2020}, True])
def test_what_is_no_filter_is_refused(retriever: Retriever, where: Any) -> None:
    with pytest.raises(FilterError, match=r"cannot be of type .*; give text, or an object as Field"):
        retriever.query("heart", where=where)


@pytest.mark.parametrize("text", [None, 5, b"heart"])
def test_a_query_that_is_no_text_is_refused(retriever: Retriever, text: Any) -> None:
    with pytest.raises(UsageError, match="a query is text"):
        retriever.query(text)


def test_one_text_is_not_taken_for_a_list_of_letters(retriever: Retriever) -> None:
    with pytest.raises(UsageError, match="what is asked is one text, 'heart'; give a list"):
        retriever.query_many("heart")
    with pytest.raises(UsageError, match="the list of domains is one text, 'cvd'"):
        retriever.query("heart", domains="cvd")


def test_a_document_indexed_after_the_first_query_is_found(retriever: Retriever, indexer: Indexer) -> None:
    retriever.query("heart")
    indexer.index([Document("late", "a zebra in the waiting room")], domain="cvd")
    assert retriever.query("zebra", domains=["cvd"]).hits[0].doc_id == "late"


def test_a_generation_that_is_open_does_not_change(retriever: Retriever, indexer: Indexer) -> None:
    before = retriever.snapshot()
    rows = before.view("cvd").rows
    indexer.index([Document("late", "a zebra in the waiting room")], domain="cvd")
    assert before.view("cvd").rows == rows
    assert retriever.snapshot().generation.number > before.generation.number


def test_rows_published_without_an_index_are_found(store: Store, encoder: Encoder, indexer: Indexer) -> None:
    indexer.index(HEART, domain="cvd")
    for file in store.indexes_dir.iterdir():
        file.unlink()
    assert Retriever(store, encoder=encoder).query("artery 7", mode="vector", k=15).hits


def test_many_queries_answer_as_one_by_one(retriever: Retriever) -> None:
    asked = ["artery 3", "melanoma 5", "sun heart"]
    together = retriever.query_many(asked, k=5)
    alone = [retriever.query(text, k=5) for text in asked]
    assert [[hit.chunk_id for hit in answer.hits] for answer in together] == [
        [hit.chunk_id for hit in answer.hits] for answer in alone
    ]


def test_an_unknown_domain_is_refused(retriever: Retriever) -> None:
    with pytest.raises(UnknownDomainError, match="did you mean 'skin'"):
        retriever.query("x", domains=["skni"])


@pytest.mark.parametrize(("text", "k"), [("", 1), ("  ", 1), ("x", 0), ("x", 10_001)])
def test_a_query_that_means_nothing_is_refused(retriever: Retriever, text: str, k: int) -> None:
    with pytest.raises(UsageError):
        retriever.query(text, k=k)


def test_an_empty_store_says_what_to_do(store: Store, encoder: Encoder) -> None:
    with pytest.raises(NothingFoundError, match="moeret index"):
        Retriever(store, encoder=encoder).query("x")


def test_a_store_of_one_domain_needs_no_router(store: Store, indexer: Indexer, encoder: Encoder) -> None:
    indexer.index(HEART, domain="cvd")
    assert [route.domain for route in Retriever(store, encoder=encoder).query("artery").routes] == ["cvd"]


def test_the_encoder_is_loaded_from_what_the_store_records(
    store: Store, indexer: Indexer, tiny_model: Path
) -> None:
    indexer.index(HEART, domain="cvd")
    snapshot = Retriever(store).snapshot()
    assert snapshot.encoder.name == str(tiny_model.resolve())


def test_the_order_at_the_top_does_not_depend_on_k(retriever: Retriever) -> None:
    few = retriever.query("heart attack 3", domains=["cvd", "skin"], k=3).hits
    many = retriever.query("heart attack 3", domains=["cvd", "skin"], k=30).hits
    assert [hit.chunk_id for hit in few] == [hit.chunk_id for hit in many[:3]]


def test_a_damaged_router_sends_queries_to_all_domains(retriever: Retriever, store: Store) -> None:
    for file in store.routers_dir.iterdir():
        file.write_bytes(b"damaged")
    heard: list[str] = []
    fresh = Retriever(store, encoder=retriever.snapshot().encoder, notify=heard.append)
    assert {route.domain for route in fresh.query("heart").routes} == {"cvd", "skin"}
    assert "fits the router again" in heard[0]


def test_many_threads_open_one_snapshot(retriever: Retriever) -> None:
    with ThreadPoolExecutor(8) as pool:
        snapshots = list(pool.map(lambda _number: retriever.snapshot(), range(32)))
    assert len({id(snapshot) for snapshot in snapshots}) == 1


def test_queries_of_other_threads_outlive_a_closing(retriever: Retriever) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(retriever.query, "artery", domains=["cvd"]) for _ in range(60)]
        while not all(one.done() for one in asked):
            retriever.close()
    assert all(one.result().hits == asked[0].result().hits for one in asked)


def test_a_closed_retriever_answers_again(retriever: Retriever) -> None:
    before = retriever.query("artery", domains=["cvd"]).hits
    retriever.close()
    assert retriever.query("artery", domains=["cvd"]).hits == before
