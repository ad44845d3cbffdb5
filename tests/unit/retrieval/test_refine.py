"""A refined query: phrasings joined, reranked, boosted, told apart, widened, or answered without it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_retrieval import Document, Encoder, Indexer, Retriever, Store
from moe_retrieval.errors import UsageError
from moe_retrieval.retrieval.answer import Answer
from moe_retrieval.retrieval.publisher import publish
from moe_retrieval.retrieval.refine import Refinement, refined
from moe_retrieval.retrieval.refining.boosts import Match, Recency
from moe_retrieval.types import Widen

HEART = [
    Document(f"h{n}", f"heart attack artery blood pressure {n}", metadata={"year": 1990 + n, "kind": "trial"})
    for n in range(15)
]
SKIN = [Document(f"s{n}", f"mole skin sun lesion {n}", metadata={"year": 2000}) for n in range(15)]
LONG = Document("long", " ".join(f"the risk of stroke in trial {n} of aspirin." for n in range(40)))

Ask = Callable[..., list[Answer]]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Store:
    """A store that no test writes to."""
    store = Store.open(tmp_path_factory.mktemp("stock") / "store", create=True, durable=False)
    return filled(store, Indexer(store, encoder=encoder))


def filled(store: Store, indexer: Indexer) -> Store:
    indexer.index([*HEART], domain="cvd")
    indexer.index([*SKIN], domain="skin")
    indexer.index([LONG, Document("other", "aspirin and stroke")], domain="trials")
    return store


def asking(retriever: Retriever) -> Ask:
    """Refined answers from the newest generation."""

    def asked(*texts: str, k: int = 10, refine: Refinement, **options: object) -> list[Answer]:
        snapshot = retriever.snapshot()
        search = partial(retriever.query_many, snapshot=snapshot, **options)  # type: ignore[arg-type]
        return refined(texts, k=k, refine=refine, search=search, snapshot=snapshot)

    return asked


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True, durable=False)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def retriever(stock: Store, encoder: Encoder, said: list[str]) -> Retriever:
    return Retriever(stock, encoder=encoder, notify=said.append)


@pytest.fixture
def ask(retriever: Retriever) -> Ask:
    return asking(retriever)


class Newest:
    """A reranker that prefers the text with the highest number at its end."""

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(text.rsplit(" ", 1)[-1]) for text in texts]


class Broken:
    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        raise RuntimeError("no memory is left\nand more")


class Hanging:
    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        threading.Event().wait(5)
        return [0.0] * len(texts)


def names(answer: Answer) -> list[str]:
    return [hit.doc_id for hit in answer.hits]


def test_a_refinement_that_does_nothing_leaves_an_answer_as_it_is(ask: Ask, retriever: Retriever) -> None:
    for k in (1, 10, 200):
        plain = retriever.query("heart skin", k=k, domains=["cvd", "skin"])
        answer = ask("heart skin", k=k, refine=Refinement(), domains=["cvd", "skin"])[0]
        assert (answer.hits, answer.routes, answer.generation) == (plain.hits, plain.routes, plain.generation)


def test_the_reranker_chooses_from_more_hits_than_are_shown(ask: Ask) -> None:
    answer = ask("heart attack", k=3, refine=Refinement(rerank=Newest()), domains=["cvd"])[0]
    assert names(answer) == ["h14", "h13", "h12"]
    assert [hit.rank for hit in answer.hits] == [1, 2, 3]
    assert answer.hits[0].why.rerank_score == 14
    assert answer.timings["rerank"] > 0
    assert answer.notes == ()


@pytest.mark.parametrize(
    ("reranker", "why"), [(Broken(), "no memory is left"), (Hanging(), "longer than 0.2 s")]
)
def test_without_the_reranker_the_answer_is_the_one_before_and_says_so(
    ask: Ask, retriever: Retriever, said: list[str], reranker: Broken | Hanging, why: str
) -> None:
    plain = retriever.query("heart attack", k=5)
    answers = ask("heart attack", "heart attack", k=5, refine=Refinement(rerank=reranker, seconds=0.2))
    assert [answer.hits for answer in answers] == [plain.hits, plain.hits]
    assert "not reranked" in answers[0].notes[0]
    assert why in answers[0].notes[0]
    assert said == list(answers[0].notes)  # once, though it went wrong twice


def test_a_reranker_that_fails_again_and_again_is_asked_no_more(ask: Ask) -> None:
    class Counting(Broken):
        calls = 0

        def score(self, query: str, texts: Sequence[str]) -> list[float]:
            self.calls += 1
            return super().score(query, texts)

    reranker = Counting()
    answers = ask(*["heart attack"] * 7, k=2, refine=Refinement(rerank=reranker), domains=["cvd"])
    assert reranker.calls == 3
    assert all(len(answer.hits) == 2 for answer in answers)
    assert "asked no more" in answers[-1].notes[0]


def test_what_comes_after_a_reranker_that_failed_is_done_all_the_same(ask: Ask) -> None:
    refine = Refinement(rerank=Broken(), boosts=(Recency("year", 1.0, weight=9.0),))
    assert names(ask("heart attack", k=2, refine=refine, domains=["cvd"])[0]) == ["h14", "h13"]


def test_phrasings_find_what_the_question_does_not_name(ask: Ask) -> None:
    refine = Refinement(also=("mole skin sun lesion",))
    alone = ask("artery", k=8, refine=Refinement(), mode="text", domains=["cvd", "skin"])[0]
    both = ask("artery", k=8, refine=refine, mode="text", domains=["cvd", "skin"])[0]
    assert {hit.domain for hit in alone.hits} == {"cvd"}
    assert both.query == "artery"
    assert {hit.domain: hit.why.phrasing_ranks for hit in both.hits[:2]} == {
        "cvd": (1, None),
        "skin": (None, 1),
    }


def test_phrasings_are_routed_each_for_itself(ask: Ask) -> None:
    answer = ask("heart attack artery", refine=Refinement(also=("mole skin sun",)), mass=0.5)[0]
    assert {route.domain for route in answer.routes} == {"cvd", "skin"}
    assert {hit.domain for hit in answer.hits} == {"cvd", "skin"}


def test_a_function_may_make_the_phrasings_of_many_questions(ask: Ask) -> None:
    others = {"artery": ["lesion", " "], "lesion": ["blood"]}
    refine = Refinement(phrasings=others.__getitem__)
    for answer in ask("artery", "lesion", k=4, refine=refine, mode="text", domains=["cvd", "skin"]):
        assert {hit.domain for hit in answer.hits[:2]} == {"cvd", "skin"}
        assert len(answer.hits[0].why.phrasing_ranks) == 2


def test_a_function_for_phrasings_that_fails_is_done_without(ask: Ask, retriever: Retriever) -> None:
    def broken(text: str) -> list[str]:
        raise ConnectionError("the service is down")

    answer = ask("artery 3", k=4, refine=Refinement(phrasings=broken))[0]
    assert answer.hits == retriever.query("artery 3", k=4).hits
    assert "the service is down" in answer.notes[0]


@pytest.mark.parametrize("made", [["an artery", 5], "an artery", None])
def test_a_function_that_gives_no_texts_is_done_without(ask: Ask, made: Any) -> None:
    answer = ask("artery 3", k=4, refine=Refinement(phrasings=lambda _text: made))[0]
    assert len(answer.hits) == 4
    assert "searched without other phrasings" in answer.notes[0]


def test_one_phrasing_is_not_taken_for_a_list_of_letters() -> None:
    with pytest.raises(UsageError, match="is one text, 'artery'"):
        Refinement(also="artery")  # type: ignore[arg-type]


def test_given_phrasings_belong_to_one_question(ask: Ask) -> None:
    with pytest.raises(UsageError, match="2 queries"):
        ask("one", "two", refine=Refinement(also=("another",)))


def test_a_boost_brings_newer_documents_first(ask: Ask) -> None:
    refine = Refinement(boosts=(Recency("year", 2.0, weight=5.0),))
    answer = ask("heart attack", k=3, refine=refine, domains=["cvd"])[0]
    assert names(answer) == ["h14", "h13", "h12"]
    assert answer.hits[0].why.boost == 5.0


def test_a_boost_may_name_the_domain(ask: Ask) -> None:
    refine = Refinement(boosts=(Match("domain", "skin", 5.0),))
    answer = ask("heart attack", k=3, refine=refine, domains=["cvd", "skin"])[0]
    assert {hit.domain for hit in answer.hits} == {"skin"}


def test_a_boost_of_an_unknown_field_is_refused(ask: Ask) -> None:
    with pytest.raises(UsageError, match="did you mean 'year'"):
        ask("heart", refine=Refinement(boosts=(Recency("yaer", 5.0),)))


def test_hits_are_told_apart_by_their_stored_vectors(ask: Ask, encoder: Encoder) -> None:
    refine = Refinement(mmr=0.5)
    answer = ask("heart attack 3", k=4, refine=refine, mode="vector", domains=["cvd"])[0]
    vectors = encoder.encode_document([document.text for document in HEART], domain="cvd")
    query = encoder.encode_query(["heart attack 3"], domain="cvd")[0]
    scores = vectors @ query
    relevance = (scores - scores.min()) / np.ptp(scores)
    chosen = [int(relevance.argmax())]
    while len(chosen) < 4:
        nearest = np.maximum(0, vectors @ vectors[chosen].T).max(axis=1)
        values = 0.5 * relevance - 0.5 * nearest
        values[chosen] = -9
        chosen.append(int(values.argmax()))
    assert names(answer) == [f"h{at}" for at in chosen]
    assert all(one.score >= other.score for one, other in pairwise(answer.hits))


def test_hits_of_one_document_grow_together(ask: Ask) -> None:
    asked = partial(ask, "stroke aspirin risk trial", k=5, domains=["trials", "skin"])
    plain, grown = (names(asked(refine=Refinement(widen=widen))[0]) for widen in (None, Widen.PARENT))
    assert plain.count("long") > 1
    assert grown.count("long") == 1
    assert len(grown) == 5
    hits = asked(refine=Refinement(widen=Widen.PARENT))[0].hits
    assert next(hit for hit in hits if hit.doc_id == "long").text == LONG.text


def test_all_at_once_keeps_ranks_and_slices(ask: Ask) -> None:
    refine = Refinement(
        also=("aspirin after stroke",),
        boosts=(Recency("year", 5.0), Match("kind", "trial")),
        mmr=0.7,
        widen=Widen.NEIGHBOURS,
    )
    answer = ask("stroke", k=7, refine=refine, domains=["cvd", "skin", "trials"])[0]
    texts = {document.id: document.text for document in (*HEART, *SKIN, LONG)} | {
        "other": "aspirin and stroke"
    }
    assert [hit.rank for hit in answer.hits] == list(range(1, 8))
    assert all(hit.text == texts[hit.doc_id][hit.start : hit.end] for hit in answer.hits)


def test_copies_under_two_domains_are_one_hit(store: Store, encoder: Encoder, indexer: Indexer) -> None:
    filled(store, indexer)
    live = store.catalog.latest()
    assert live is not None
    table = store.create_table("pain", dim=encoder.dim, fingerprint=live.domains["cvd"].fingerprint)
    for batch in store.view(live.domains["cvd"]).batches():
        table.write(batch)
    entries = {**live.domains, "pain": table.entry(expert="general")}
    publish(store, entries, live=live, encoder=encoder, refit=False)
    ask = asking(Retriever(store, encoder=encoder))
    answer = ask("heart attack", k=10, refine=Refinement(), domains=["cvd", "pain"])[0]
    assert len(set(names(answer))) == 10
    assert {(hit.domain, *hit.why.copies) for hit in answer.hits} <= {("cvd", "pain"), ("pain", "cvd")}


def test_everything_is_read_from_the_generation_that_answers(
    store: Store, encoder: Encoder, indexer: Indexer
) -> None:
    filled(store, indexer)
    retriever = Retriever(store, encoder=encoder)
    snapshot = retriever.snapshot()
    search = partial(retriever.query_many, snapshot=snapshot, domains=["trials"])
    indexer.index([Document("long", "heart")], domain="trials")
    refine = Refinement(widen=Widen.PARENT, mmr=0.9)
    answer = refined(["aspirin"], k=5, refine=refine, search=search, snapshot=snapshot)[0]
    assert answer.generation == snapshot.generation.number
    assert next(hit for hit in answer.hits if hit.doc_id == "long").text == LONG.text


@pytest.mark.parametrize("k", [0, -1, 1_000_000])
def test_a_k_out_of_range_gets_a_sentence(ask: Ask, k: int) -> None:
    with pytest.raises(UsageError, match=f"k is {k}"):
        ask("heart", k=k, refine=Refinement())


@pytest.mark.parametrize(
    "wrong",
    [{"mmr": 1.5}, {"mmr": float("nan")}, {"candidates": 0}, {"candidates": 10**6}, {"batch": 0},
     {"seconds": 0}, {"seconds": float("inf")}],
)  # fmt: skip
def test_a_value_out_of_range_gets_a_sentence_and_a_next_step(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError) as raised:
        Refinement(**wrong)  # type: ignore[arg-type]
    assert raised.value.hint


def test_no_hits_can_be_refined(ask: Ask) -> None:
    refine = Refinement(rerank=Newest(), boosts=(Match("kind", "x"),), mmr=0.5, widen=Widen.SECTION)
    assert ask("heart", refine=refine, domains=["cvd"], where="year > 3000")[0].hits == ()
