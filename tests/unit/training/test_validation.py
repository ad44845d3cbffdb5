"""What a training is steered by: a small retrieval task per domain, judged as trec_eval judges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moe_retrieval.corpus.pairs import Pair
from moe_retrieval.evaluation.rankings import per_query
from moe_retrieval.training.validation import DOCUMENT, QUERY, Validation, macro

PAIRS = [
    *(Pair(f"q{at}", f"d{at}-{answer}", "cvd") for at in range(30) for answer in range(1 + at % 3)),
    *(Pair(f"s{at}", f"t{at}", "skin") for at in range(12)),
    Pair("q0", "t3", "cvd", label=0),
]


class Toy:
    """Embeds a text as the mean of random vectors of what it is about, with so much noise."""

    def __init__(self, *, noise: float, seed: int = 0) -> None:
        self.noise, self.seed = noise, seed
        self.asked: list[tuple[str, str]] = []

    def __call__(self, texts: Sequence[str], domain: str, side: str) -> NDArray[np.float32]:
        self.asked.append((domain, side))
        rows = np.stack([self._one(text, side) for text in texts])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    def _one(self, text: str, side: str) -> NDArray[np.float64]:
        about = text.split("-")[0][1:] + text[0].replace("q", "d").replace("s", "t")
        meant = np.random.default_rng(abs(hash_of(about))).normal(size=64)
        noise = np.random.default_rng(abs(hash_of(f"{self.seed} {side} {text}"))).normal(size=64)
        return meant + self.noise * noise


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode(), "little") % (2**32)


def test_a_perfect_embedding_scores_one_for_every_query() -> None:
    scores = Validation.of(PAIRS).scores(Toy(noise=0.0))
    assert {domain: len(own) for domain, own in scores.items()} == {"cvd": 30, "skin": 12}
    for own in scores.values():
        np.testing.assert_array_equal(own, 1.0)
    assert macro(scores) == 1.0


def test_an_embedding_without_sense_scores_far_below() -> None:
    assert macro(Validation.of(PAIRS).scores(Toy(noise=1e6))) < 0.3


def test_scores_are_those_of_trec_eval() -> None:
    embed, validation = Toy(noise=2.5), Validation.of(PAIRS)
    scores = validation.scores(embed)
    for domain, task in validation.tasks.items():
        similar = embed(task.queries, domain, QUERY) @ embed(task.candidates, domain, DOCUMENT).T
        run = {
            query: dict(zip(task.candidates, map(float, similar[row]), strict=True))
            for row, query in enumerate(task.queries)
        }
        judged: dict[str, dict[str, int]] = {query: {} for query in task.queries}
        for pair in PAIRS:
            if pair.label == 1 and pair.a in judged:
                judged[pair.a][pair.b] = 1
        expected = per_query(run, judged)["ndcg_10"]
        np.testing.assert_allclose(scores[domain], [expected[query] for query in task.queries], atol=1e-9)
        assert 0.2 < scores[domain].mean() < 0.98


def test_each_side_is_embedded_as_what_it_is() -> None:
    embed = Toy(noise=0.1)
    Validation.of(PAIRS).scores(embed)
    assert embed.asked == [("cvd", QUERY), ("cvd", DOCUMENT), ("skin", QUERY), ("skin", DOCUMENT)]


def test_pairs_labelled_0_ask_and_answer_nothing() -> None:
    task = Validation.of(PAIRS).tasks["cvd"]
    assert "t3" not in task.candidates
    assert Validation.of([Pair("a", "b", "cvd", label=0)]).domains == ()


def test_a_query_is_not_found_by_itself() -> None:
    """b answers a, and asks for c: its own text, which no other could be nearer to, is no answer of its."""
    chain = [Pair("a", "b", "cvd"), Pair("b", "c", "cvd")]
    places = {"a": [1.0, 0.0, 0.0], "b": [0.8, 0.6, 0.0], "c": [0.6, 0.8, 0.0]}

    def embed(texts: Sequence[str], _domain: str, _side: str) -> NDArray[np.float32]:
        return np.array([places[text] for text in texts], np.float32)

    np.testing.assert_array_equal(Validation.of(chain).scores(embed)["cvd"], [1.0, 1.0])


def test_a_text_that_asks_in_one_pair_answers_in_it_too() -> None:
    pairs = [Pair("a", "b", "cvd"), Pair("b", "c", "cvd"), Pair("d", "a", "cvd")]
    task = Validation.of(pairs).tasks["cvd"]
    found = {
        query: {task.candidates[place] for place in relevant}
        for query, relevant in zip(task.queries, task.relevant, strict=True)
    }
    assert found == {"a": {"b"}, "b": {"a", "c"}, "d": {"a"}}


def test_a_pair_of_one_text_with_itself_asks_nothing() -> None:
    assert Validation.of([Pair("a", "a", "cvd"), Pair("a", "b", "cvd")]).tasks["cvd"].candidates == ("b",)


def test_queries_are_drawn_by_seed_and_candidates_follow_them() -> None:
    drawn = Validation.of(PAIRS, queries=10, seed=1).tasks["cvd"]
    assert len(drawn.queries) == 10
    assert {text.split("-")[0][1:] for text in drawn.candidates} == {text[1:] for text in drawn.queries}
    assert Validation.of(PAIRS, queries=10, seed=1).tasks["cvd"] == drawn
    assert Validation.of(list(reversed(PAIRS)), queries=10, seed=1).tasks["cvd"] == drawn
    assert Validation.of(PAIRS, queries=10, seed=2).tasks["cvd"] != drawn


def test_macro_counts_each_domain_alike() -> None:
    scores: Any = {"large": np.zeros(90), "small": np.ones(10)}
    assert macro(scores) == pytest.approx(0.5)


def test_a_query_with_few_candidates_is_judged_too() -> None:
    two = [Pair("q1", "d1", "cvd"), Pair("q2", "d2", "cvd")]
    np.testing.assert_array_equal(Validation.of(two).scores(Toy(noise=0.0))["cvd"], [1.0, 1.0])
