"""`moeret query` with hits reranked, boosted, told apart, asked in other words, widened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.program import Done, Run, run_moeret
from tests.tiny_model import build_tiny_cross_encoder

TOPICS = ("heart attack", "lung disease", "skin sun")
RECORDS = [
    {"_id": f"d{n}", "text": f"{TOPICS[n % 3]} risk {n}", "domain": "heart", "year": 1990 + n}
    for n in range(12)
]
LONG = {
    "_id": "long",
    "text": " ".join(f"aspirin dose and stroke in trial {n}." for n in range(30)),
    "domain": "drugs",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with a store of two domains and a cross-encoder, which no test changes."""
    folder = tmp_path_factory.mktemp("refined")
    (folder / "all.jsonl").write_text("\n".join(map(json.dumps, [*RECORDS, LONG])), "utf8")
    done = run_moeret(
        "index", folder / "all.jsonl", "--domain-field", "domain",
        "--store", folder / "store", "--model", tiny_model, "--durability", "process",
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def query(place: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("MOERET_STORE", str(place / "store"))

    def run(*words: str, stdin: bytes = b"") -> Done:
        return run_moeret("query", *words, stdin=stdin)

    return run


def ids(done: Done) -> list[str]:
    return [record["doc_id"] for record in done.records()]


def test_a_boost_of_newer_documents(query: Run) -> None:
    done = query("risk", "-d", "heart", "--boost", "year~1^5", "-k", "3", "--json")
    assert (done.code, ids(done)) == (0, ["d11", "d10", "d9"])


def test_explain_says_what_was_done(query: Run) -> None:
    done = query("risk", "-d", "heart", "--boost", "year~1^5", "--also", "lung", "-k", "2", "--explain")
    assert "boosted +5.000" in done.out
    assert "phrasings #" in done.out


def test_json_with_explain_holds_all_reasons(query: Run) -> None:
    done = query("heart", "-d", "heart", "--mmr", "0.5", "-k", "2", "--json", "--explain")
    assert all(record["why"]["fused_score"] is not None for record in done.records())


def test_a_text_grows_to_its_document(query: Run) -> None:
    done = query("aspirin dose", "-d", "drugs", "--widen", "parent", "--json")
    assert [record["text"] for record in done.records()] == [LONG["text"]]


def test_a_cross_encoder_orders(query: Run, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    folder = build_tiny_cross_encoder(tmp_path / "cross")
    done = query("heart", "-d", "heart", "--rerank", str(folder), "--json", "--explain")
    scores = [record["why"]["rerank_score"] for record in done.records()]
    assert len(scores) == 10
    assert scores == sorted(scores, reverse=True)


def test_a_cross_encoder_that_takes_too_long_is_done_without(query: Run, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    folder = build_tiny_cross_encoder(tmp_path / "cross")
    plain = query("heart", "-d", "heart", "--json")
    done = query("heart", "-d", "heart", "--rerank", str(folder), "--rerank-seconds", "1e-6", "--json")
    assert (done.code, done.out) == (0, plain.out)
    assert "not reranked: the reranker took longer than 1e-06 s" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mmr", "2"], "0 to 1"),
        (["--mmr", "nan"], "0 to 1"),
        (["--boost", "year"], "year~5"),
        (["--boost", "yaer~5"], "did you mean 'year'"),
        (["--candidates", "0"], "1 to 10000"),
        (["--candidates", "1000000"], "1 to 10000"),
        (["--rerank-seconds", "5"], "--rerank MODEL"),
        (["--rerank", "nowhere", "--rerank-seconds", "-1"], "above 0"),
        (["-k", "0", "--mmr", "0.5"], "1 to 10000"),
        (["-k", "1000000", "--mmr", "0.5"], "1 to 10000"),
    ],
)
def test_what_means_nothing_gets_a_sentence_and_a_next_step(query: Run, words: list[str], said: str) -> None:
    done = query("heart", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") <= 2


def test_a_reranker_that_is_not_there_is_named(query: Run) -> None:
    pytest.importorskip("sentence_transformers")
    done = query("heart", "--rerank", "no/such-model-anywhere")
    assert done.code == 1
    assert "no/such-model-anywhere" in done.err
    assert "next: " in done.err


def test_other_phrasings_belong_to_one_question(query: Run) -> None:
    two = b'{"_id": "1", "text": "heart"}\n{"_id": "2", "text": "lung"}\n'
    done = query("--queries", "-", "--also", "skin", stdin=two)
    assert done.code == 2
    assert "2 queries" in done.err
