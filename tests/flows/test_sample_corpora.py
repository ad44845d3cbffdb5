"""The first five minutes of a user, on the bundled encoder and the bundled corpora."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.program import ROOT, Done, run_moeret

HIT_KEYS = [
    "query_id", "rank", "score", "domain", "doc_id", "chunk_id", "title", "text", "source", "start", "end",
]  # fmt: skip
DOMAINS = {"autoimmune", "copd", "cvd", "parasitic", "skin-cancer"}

Sample = tuple[Path, Done]


def test_every_sub_folder_becomes_a_domain(sample_store: Sample) -> None:
    report = sample_store[1].records()[-1]
    assert set(report["domains"]) == DOMAINS
    assert report["documents"] >= 200
    assert report["rejected"] == 0


def test_a_second_run_encodes_nothing(sample_store: Sample) -> None:
    store, first = sample_store
    second = run_moeret("index", str(ROOT / "sample_corpora"), "--store", str(store), "--json").records()[-1]
    assert second["encoded"] == 0
    assert second["unchanged"] == first.records()[-1]["documents"]


def test_a_question_finds_its_domain_first(sample_store: Sample) -> None:
    done = run_moeret(
        "query",
        "does aspirin lower the risk of stroke?",
        "--json",
        "-k",
        "3",
        "--store",
        str(sample_store[0]),
    )
    hits = done.records()
    assert hits[0]["domain"] == "cvd"
    assert hits[0]["doc_id"] == "aspirin-low-dose-stroke-risk.md"
    assert list(hits[0])[: len(HIT_KEYS)] == HIT_KEYS


def judged() -> tuple[list[dict[str, Any]], dict[str, dict[str, int]]]:
    lines = (ROOT / "sample_corpora" / "queries.jsonl").read_text(encoding="utf8").splitlines()
    qrels: dict[str, dict[str, int]] = {}
    for line in (ROOT / "sample_corpora" / "qrels.tsv").read_text(encoding="utf8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    return [json.loads(line) for line in lines], qrels


@pytest.fixture(scope="session")
def routed(sample_store: Sample) -> list[dict[str, Any]]:
    """Hits of all sample queries, domain unknown."""
    queries = str(ROOT / "sample_corpora" / "queries.jsonl")
    return run_moeret(
        "query", "--queries", queries, "--json", "--explain", "--store", str(sample_store[0])
    ).records()


def test_the_router_finds_the_domain_of_most_queries(routed: list[dict[str, Any]]) -> None:
    queries, _qrels = judged()
    first = {hit["query_id"]: hit["domain"] for hit in reversed(routed)}
    right = sum(first[query["_id"]] == query["domain"] for query in queries)
    assert right >= 0.85 * len(queries)


def test_routed_hybrid_search_ranks_judged_documents_high(routed: list[dict[str, Any]]) -> None:
    import ir_measures
    from ir_measures import nDCG

    _queries, qrels = judged()
    run: dict[str, dict[str, float]] = {}
    for hit in routed:
        run.setdefault(hit["query_id"], {}).setdefault(hit["doc_id"], hit["score"])
    assert ir_measures.calc_aggregate([nDCG @ 10], qrels, run)[nDCG @ 10] >= 0.75


def test_every_judged_document_is_in_the_store(sample_store: Sample) -> None:
    from moe_retrieval import Store

    store = Store.open(sample_store[0])
    live = store.catalog.latest()
    assert live is not None
    stored = {
        name
        for entry in live.domains.values()
        for batch in store.view(entry).batches(("doc_id",))
        for name in batch["doc_id"].to_pylist()
    }
    _queries, qrels = judged()
    assert {name for documents in qrels.values() for name in documents} <= stored


@pytest.mark.parametrize("form", ["markdown", "xml", "json"])
def test_a_context_stays_in_its_budget_and_cites(sample_store: Sample, form: str) -> None:
    words = ["context", "who should wear home oxygen?", "--budget", "600", "--format", form, "--json"]
    found = run_moeret(*words, "--store", str(sample_store[0])).records()[-1]
    assert 200 < found["tokens"] <= 600
    assert [one["number"] for one in found["citations"]] == list(range(1, len(found["citations"]) + 1))


def test_status_shows_each_index_with_its_recall(sample_store: Sample) -> None:
    found = run_moeret("status", "--json", "--store", str(sample_store[0])).records()[-1]
    assert {one["domain"] for one in found["domains"]} == DOMAINS
    assert all(one["index"]["recall_at_10"] == 1.0 for one in found["domains"])


def test_the_doctor_finds_nothing_wrong(sample_store: Sample) -> None:
    done = run_moeret("doctor", "--json", "--store", str(sample_store[0]))
    assert done.code == 0
    assert {one["level"] for one in done.records()} == {"ok"}
