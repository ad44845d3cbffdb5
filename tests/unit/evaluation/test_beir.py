"""Collections through an encoder: within domains by each one's expert, or all by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moe_retrieval.corpus.collection import Collection, read_collection
from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.beir import evaluate_collection
from moe_retrieval.evaluation.judging import judge_run, shared_judgements
from moe_retrieval.evaluation.rankings import per_query
from tests.tiny_model import WORDS as TINY_WORDS

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval import Encoder

WORDS = TINY_WORDS[5:21]


def made(*, domains: bool = True, seed: int = 0, queries: int = 12, documents: int = 40) -> Collection:
    """Random short texts, half of cvd and half of skin; two or three documents judged per query."""
    generator = np.random.default_rng(seed)

    def text() -> str:
        return " ".join(generator.choice(WORDS, size=5))

    held = {f"d{place}": text() for place in range(documents)}
    asked = {f"q{place}": text() for place in range(queries)}
    sides = ("cvd", "skin")

    def of(names: dict[str, str]) -> dict[str, str]:
        return {name: sides[int(name[1:]) % 2] for name in names} if domains else {}

    qrels = {
        name: {f"d{int(name[1:]) % 2 + 2 * int(place)}": 1 + int(place) % 2
               for place in generator.choice(documents // 2, size=3, replace=False)}
        for name in asked
    }  # fmt: skip
    return Collection("made", held, asked, qrels, of(held), of(asked))


def by_hand(encoder: Encoder, collection: Collection, *, expert: str, domain: str = "") -> dict[str, Any]:
    """Rankings by plain argsort of all documents (of a domain)."""
    names = [name for name in collection.documents if domain in ("", collection.document_domains.get(name))]
    vectors = encoder.encode_document([collection.documents[name] for name in names], domain=expert)
    run = {}
    for query, text in collection.queries.items():
        if domain in ("", collection.query_domains.get(query)):
            scores = vectors @ encoder.encode_query([text], domain=expert)[0]
            run[query] = dict(zip(names, map(float, scores), strict=True))
    return run


def test_each_query_meets_its_domains_documents_by_its_domains_expert(encoder: Encoder) -> None:
    collection = made()
    found = evaluate_collection(encoder, collection, samples=100)
    wanted = {}
    for domain in ("cvd", "skin"):
        wanted |= by_hand(encoder, collection, expert=domain, domain=domain)
    for name, values in per_query(wanted, collection.qrels).items():
        assert found.per_query[name] == pytest.approx(values)
    assert list(found.domains) == ["cvd", "skin"]
    assert found.experts == {domain: encoder.expert_of(domain) for domain in ("cvd", "skin")}
    own = [
        value
        for query, value in found.per_query["ndcg_10"].items()
        if collection.query_domains[query] == "cvd"
    ]
    assert found.domains["cvd"]["ndcg_10"].mean == pytest.approx(np.mean(own))
    both = [figures["ndcg_10"].mean for figures in found.domains.values()]
    assert found.macro["ndcg_10"].mean == pytest.approx(np.mean(both))
    assert found.pooled["ndcg_10"].mean == pytest.approx(np.mean(list(found.per_query["ndcg_10"].values())))
    assert found.pooled["ndcg_10"].low < found.pooled["ndcg_10"].mean < found.pooled["ndcg_10"].high


def test_with_a_domain_all_meet_all_by_its_expert(encoder: Encoder) -> None:
    collection = made()
    found = evaluate_collection(encoder, collection, domain="skin", samples=50)
    wanted = per_query(by_hand(encoder, collection, expert="skin"), collection.qrels)
    assert found.per_query["ndcg_10"] == pytest.approx(wanted["ndcg_10"])
    assert (found.domains, found.experts) == ({}, {"skin": encoder.expert_of("skin")})
    assert len(found.run["q0"]) == 40


def test_domains_can_be_kept_apart_under_one_expert_and_joined_under_general(encoder: Encoder) -> None:
    collection = made()
    apart = evaluate_collection(encoder, collection, domain="skin", within_domain=True, samples=50)
    assert len(apart.run["q0"]) == 20
    assert set(apart.experts.values()) == {encoder.expert_of("skin")}
    joined = evaluate_collection(encoder, collection, within_domain=False, samples=50)
    wanted = per_query(by_hand(encoder, collection, expert="general"), collection.qrels)
    assert joined.per_query["ndcg_10"] == pytest.approx(wanted["ndcg_10"])


def test_a_collection_without_domains_is_ranked_whole(encoder: Encoder) -> None:
    collection = made(domains=False)
    found = evaluate_collection(encoder, collection, samples=50)
    assert found.experts == {"general": "general"}
    assert [name for name, _ in found.scopes] == ["pooled"]
    with pytest.raises(UsageError, match="made names no domains"):
        evaluate_collection(encoder, collection, within_domain=True)


def test_a_k_beyond_the_collection_ranks_it_all_and_a_small_one_cuts(encoder: Encoder) -> None:
    collection = made(domains=False)
    assert len(evaluate_collection(encoder, collection, k=500, samples=5).run["q0"]) == 40
    assert len(evaluate_collection(encoder, collection, k=3, samples=5).run["q0"]) == 3
    with pytest.raises(UsageError, match="k must be at least 1"):
        evaluate_collection(encoder, collection, k=0)


def test_a_document_that_is_the_query_is_no_answer_but_an_equal_id_alone_is(encoder: Encoder) -> None:
    held = {"x": "heart attack", "y": "skin cell", "z": "lung disease"}
    asked = {"x": "heart attack", "y": "blood pressure"}
    collection = Collection("self", held, asked, {"x": {"z": 1}, "y": {"y": 1}}, {}, {})
    found = evaluate_collection(encoder, collection, k=2, samples=5)
    assert set(found.run["x"]) == {"y", "z"}
    assert len(found.run["y"]) == 2
    assert "y" in evaluate_collection(encoder, collection, samples=5).run["y"]


def test_what_cannot_be_found_is_told(encoder: Encoder) -> None:
    held = {"a": "heart", "b": "skin"}
    asked = {"1": "heart attack", "2": "sun", "3": "worm"}
    qrels = {"1": {"a": 1, "b": 1}, "2": {"b": 1, "gone": 1}, "3": {"a": 1}}
    collection = Collection(
        "odd", held, asked, qrels, {"a": "cvd", "b": "skin"}, {"1": "cvd", "2": "skin", "3": "worms"}
    )
    found = evaluate_collection(encoder, collection, samples=5)
    assert found.warnings == (
        "odd: domain 'worms' has queries and no documents; it is left out",
        "odd: 2 relevant documents are not among those ranked for their query "
        "(of another domain, or missing) and count as not found",
        "odd: one item only in cvd, skin: no interval there, and that of macro is too narrow",
    )
    assert found.per_query["recall_10"] == {"1": 0.5, "2": 0.5}
    assert np.isnan(found.domains["cvd"]["ndcg_10"].low)
    lonely = Collection("odd", held, {"3": "worm"}, {"3": {"a": 1}}, {"a": "cvd"}, {"3": "worms"})
    with pytest.raises(UsageError, match="odd has no query with a document in its domain"):
        evaluate_collection(encoder, lonely)


def test_a_collection_without_a_judged_query_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "heart"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "heart"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n7\ta\t1\n")
    with pytest.raises(UsageError, match="has no query with a judgement"):
        read_collection(tmp_path)


def test_queries_that_share_their_judgements_count_as_one_when_asked() -> None:
    shared = {f"s{place}": {"d1": 1, "d2": 1, "d3": 0} for place in range(8)}
    qrels = {**shared, "own": {"d9": 1}, "other": {"d8": 1}}
    run = {**{name: {"d1": 1.0} for name in shared}, "own": {"d1": 1.0}, "other": {"d8": 1.0}}
    assert len(set(shared_judgements(qrels).values())) == 3
    plain = judge_run(run, qrels, model="m", data="d", samples=50)
    grouped = judge_run(run, qrels, model="m", data="d", by_group=True, samples=50)
    assert plain.pooled["recall_10"].mean == pytest.approx((8 * 0.5 + 0 + 1) / 10)
    assert grouped.pooled["recall_10"].mean == pytest.approx((0.5 + 0 + 1) / 3)
    assert (grouped.pooled.count, grouped.pooled.items) == (10, 3)


def test_the_report_holds_every_query(encoder: Encoder) -> None:
    said = evaluate_collection(encoder, made(), model="m", samples=20).to_dict()
    assert list(said) == ["model", "data", "domains", "macro", "pooled", "experts", "warnings", "per_query"]
    assert len(said["per_query"]["ndcg_10"]) == 12
    assert said["domains"]["cvd"]["count"] == 6
