"""Many queries at once, and many threads: the answers are those of one query after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest

from moe_retrieval import Document, Moeret, Retriever
from moe_retrieval.errors import UsageError
from moe_retrieval.filters import Field
from moe_retrieval.model import surgery
from moe_retrieval.retrieval.answer import Answer
from moe_retrieval.retrieval.refine import Refinement
from moe_retrieval.retrieval.refining.boosts import Recency
from moe_retrieval.retrieval.snapshot import Snapshot
from moe_retrieval.settings import Settings
from moe_retrieval.types import Across, Fusing, Mode, Precision, Widen, Within
from tests.tiny_model import different

WORDS = {
    "cvd": "heart attack artery blood pressure",
    "eye": "light tumour joint cell",
    "skin": "mole skin sun lesion",
}
TEXTS = ["heart attack 3", "mole skin sun 5", "blood pressure in the skin", "light 7", "worm"]
ROWS = 25


@pytest.fixture(scope="module")
def moeret(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moeret]:
    """A store of three domains in two vector spaces, each calibrated, which no test changes."""
    folder = tmp_path_factory.mktemp("batches")
    pack = surgery.export_expert(different(surgery.upcycle(tiny_model), "cvd"), "cvd", folder)
    settings = Settings(
        model=str(tiny_model),
        precision=Precision.FP32,
        durability="process",
        experts=f"cvd={folder / pack}",
        mass=0.6,
    )
    with Moeret.open(folder / "store", settings=settings) as opened:
        for domain in WORDS:
            opened.index_documents(documents(domain), domain=domain)
        yield opened


def documents(domain: str) -> list[Document]:
    return [
        Document(f"{domain}{at}", f"{WORDS[domain]} {at}", metadata={"year": 2000 + at}) for at in range(ROWS)
    ]


@pytest.fixture
def retriever(moeret: Moeret) -> Retriever:
    return moeret.retriever


def places(answer: Answer) -> list[tuple[str, str]]:
    return [(hit.domain, hit.chunk_id) for hit in answer.hits]


def alike(one: Answer, other: Answer) -> None:
    """The same answer; scores may differ in their last digits, since a batch is padded."""
    assert places(one) == places(other)
    assert [hit.score for hit in one.hits] == pytest.approx([hit.score for hit in other.hits], abs=1e-4)
    assert [route.domain for route in one.routes] == [route.domain for route in other.routes]
    assert (one.query, one.generation, one.fused) == (other.query, other.generation, other.fused)


@pytest.mark.parametrize(
    ("mode", "where", "domains"),
    [*product(Mode, [None, Field("year") >= 2010], [None, ["skin", "cvd"]])],
)
def test_a_batch_answers_as_one_by_one(
    retriever: Retriever, mode: Mode, where: object, domains: list[str] | None
) -> None:
    options = {"k": 7, "mode": mode, "where": where, "domains": domains, "mass": 0.6}
    together = retriever.query_many(TEXTS, **options)  # type: ignore[arg-type]
    for text, answer in zip(TEXTS, together, strict=True):
        alike(answer, retriever.query(text, **options))  # type: ignore[arg-type]
    routes = {tuple(route.domain for route in answer.routes) for answer in together}
    assert len(routes) == 1 if domains else len(routes) > 1
    assert any(answer.hits for answer in together)


@pytest.mark.parametrize(("across", "within"), [*product(Across, Within)])
def test_a_batch_is_fused_as_one_by_one(retriever: Retriever, across: Across, within: Within) -> None:
    fusing = Fusing(across, within, 0.4)
    together = retriever.query_many(TEXTS, k=9, domains=[*WORDS], fusing=fusing)
    for text, answer in zip(TEXTS, together, strict=True):
        alike(answer, retriever.query(text, k=9, domains=[*WORDS], fusing=fusing))
        assert len(answer.hits) == 9
        assert answer.fused is (Across.CALIBRATED if across is Across.AUTO else across)


def test_no_queries_have_no_answers(retriever: Retriever) -> None:
    assert retriever.query_many([]) == []


@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.VECTOR])
def test_more_hits_than_there_are_chunks_are_all_chunks_once(retriever: Retriever, mode: Mode) -> None:
    answer = retriever.query("heart skin light", k=1_000, mode=mode, domains=[*WORDS])
    assert len(set(places(answer))) == len(answer.hits) == 3 * ROWS


@pytest.mark.parametrize("mode", Mode)
def test_a_filter_that_lets_nothing_through_gives_nothing_in_any_mode(
    retriever: Retriever, mode: Mode
) -> None:
    for answer in retriever.query_many(TEXTS, mode=mode, where="year > 3000", domains=[*WORDS]):
        assert answer.hits == ()


def test_a_domain_that_the_filter_leaves_empty_takes_nothing_from_the_others(retriever: Retriever) -> None:
    where = Field("doc_id").like("skin%")
    for mode in Mode:
        both = retriever.query("mole skin sun", k=9, mode=mode, where=where, domains=["cvd", "skin"])
        alone = retriever.query("mole skin sun", k=9, mode=mode, where=where, domains=["skin"])
        assert places(both) == places(alone)
        assert len(both.hits) == 9


def test_stages_of_a_batch_add_up_to_no_more_than_it_took(retriever: Retriever) -> None:
    started = time.perf_counter()
    answers = retriever.query_many(TEXTS, domains=["cvd"])
    took = time.perf_counter() - started
    assert set(answers[0].timings) == {"route", "encode", "vector", "text", "fuse", "fetch"}
    assert all(seconds >= 0 for answer in answers for seconds in answer.timings.values())
    assert 0 < sum(sum(answer.timings.values()) for answer in answers) <= took
    assert set(retriever.query("heart", mode="text", domains=["cvd"]).timings) == {
        "route", "text", "fuse", "fetch",
    }  # fmt: skip


def test_a_mode_that_there_is_not_gets_the_nearest_name(retriever: Retriever) -> None:
    with pytest.raises(UsageError, match="there is no mode 'vectors'; did you mean 'vector'"):
        retriever.query("heart", mode="vectors")


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_out_of_range_is_refused(retriever: Retriever, weight: float) -> None:
    with pytest.raises(UsageError, match="weight of the vector search"):
        retriever.query("heart", fusing=Fusing(weight=weight))


def test_threads_with_other_options_do_not_disturb_each_other(moeret: Moeret) -> None:
    """One handle; filters, modes, domains, ways of fusing and refinements change from call to call."""
    ways: list[dict[str, object]] = [
        {"mode": "text", "where": "year < 2005"},
        {"mode": "vector", "domains": ["skin"], "k": 3},
        {"where": Field("year") >= 2020, "domains": [*WORDS]},
        {"fusing": Fusing(Across.RRF, Within.RRF), "domains": [*WORDS]},
        {"refine": Refinement(mmr=0.3, boosts=(Recency("year", 2),), also=("sun",)), "k": 4},
        {"refine": Refinement(widen=Widen.PARENT)},
        {},
    ]
    asked = [(text, way) for text in TEXTS for way in ways] * 3
    alone = {at: moeret.query(text, **way) for at, (text, way) in enumerate(asked[: len(asked) // 3])}  # type: ignore[arg-type]
    with ThreadPoolExecutor(6) as pool:
        beside = list(pool.map(lambda one: moeret.query(one[0], **one[1]), asked))  # type: ignore[arg-type]
    for at, answer in enumerate(beside):
        alike(answer, alone[at % len(alone)])


def test_threads_that_ask_first_share_one_retriever(moeret: Moeret) -> None:
    with (
        Moeret.open(moeret.store.path, settings=moeret.settings) as fresh,
        ThreadPoolExecutor(8) as pool,
    ):
        found = list(pool.map(lambda _at: fresh.retriever, range(16)))
    assert len({id(one) for one in found}) == 1


def test_a_context_is_made_of_one_generation_though_another_is_published_meanwhile(
    moeret: Moeret, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = moeret.settings.model_copy(update={"experts": ()})
    with Moeret.open(tmp_path / "store", settings=settings) as ours:
        ours.index_documents([Document("one", "a heart attack")], domain="cvd")
        opened = Retriever.snapshot

        def published_meanwhile(self: Retriever) -> Snapshot:
            found = opened(self)
            ours.index_documents([Document("two", "a heart attack of another kind")], domain="cvd")
            ours.gc(keep=1)
            return found

        monkeypatch.setattr(Retriever, "snapshot", published_meanwhile)
        context = ours.context("heart attack")
        assert [one.doc_id for one in context.citations] == ["one"]
        assert context.generation == 1
        assert ours.store.catalog.latest() == ours.store.catalog.read(2)
