"""Maximal marginal relevance: what repeats a better hit goes back."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_retrieval.retrieval.refining.diversity import diversified, overlap
from tests.unit.retrieval.made_hits import made


def unit_vectors(rows: int, *, seed: int = 0, dim: int = 8) -> list[np.ndarray]:
    array = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return list(array / np.linalg.norm(array, axis=1, keepdims=True))


def plain(scores: list[float], vectors: list[np.ndarray], weight: float, k: int) -> list[int]:
    """The formula of the paper, candidate by candidate."""
    low, high = min(scores), max(scores)
    relevance = [(score - low) / (high - low) if high > low else 1.0 for score in scores]
    chosen: list[int] = []
    while len(chosen) < k:
        left = [at for at in range(len(scores)) if at not in chosen]
        values = {
            at: weight * relevance[at]
            - (1 - weight) * max([0.0, *(float(vectors[at] @ vectors[other]) for other in chosen)])
            for at in left
        }
        chosen.append(max(left, key=lambda at: (values[at], -at)))
    return chosen


@given(st.integers(1, 12), st.floats(0, 1), st.integers(0, 1000))
def test_the_choice_is_that_of_the_formula(rows: int, weight: float, seed: int) -> None:
    scores = sorted(np.random.default_rng(seed).random(rows).tolist(), reverse=True)
    vectors = unit_vectors(rows, seed=seed)
    hits = [made(str(at), score=score) for at, score in enumerate(scores)]
    found = diversified(hits, vectors=vectors, spaces=["x"] * rows, weight=weight, k=rows)
    assert [int(hit.doc_id) for hit in found] == plain(scores, vectors, weight, rows)
    assert all(one.score >= other.score for one, other in pairwise(found))


def test_a_repetition_goes_behind_what_is_less_relevant_and_new() -> None:
    same, other = np.float32([1, 0]), np.float32([0, 1])
    hits = [
        made("best", score=1.0),
        made("again", score=0.9),
        made("new", score=0.5),
        made("last", score=0.0),
    ]
    vectors = [same, same, other, other]
    found = diversified(hits, vectors=vectors, spaces=["x"] * 4, weight=0.5, k=3)
    assert [hit.doc_id for hit in found] == ["best", "new", "again"]
    assert found[1].why.fused_score == 0.5


def test_a_weight_of_one_leaves_the_order_as_it_is() -> None:
    hits = [made(str(at), score=-at) for at in range(20)]
    found = diversified(hits, vectors=unit_vectors(20), spaces=["x"] * 20, weight=1.0, k=20)
    assert [hit.doc_id for hit in found] == [hit.doc_id for hit in hits]


def test_cosines_of_two_spaces_are_not_compared_but_words_are() -> None:
    vector = np.float32([1, 0])
    hits = [
        made("a", "aspirin after stroke", score=1.0),
        made("b", "aspirin after stroke", domain="pain", score=0.9),
        made("c", "malaria in children", domain="pain", score=0.8),
        made("d", "sun and skin", score=0.0),
    ]
    vectors = [vector, vector, vector, np.float32([0, 1])]
    spaces = ["one", "two", "two", "one"]
    found = diversified(hits, vectors=vectors, spaces=spaces, weight=0.5, k=2)
    assert [hit.doc_id for hit in found] == ["a", "c"]  # its vector is a's too, but of another space


def test_spaces_of_other_widths_go_together() -> None:
    hits = [made("a", score=1.0), made("b", "else", domain="pain", score=0.5)]
    vectors = [np.float32([1, 0]), np.float32([1, 0, 0])]
    assert len(diversified(hits, vectors=vectors, spaces=["one", "two"], weight=0.5, k=2)) == 2


def test_no_hits_stay_no_hits() -> None:
    assert diversified([], vectors=[], spaces=[], weight=0.5, k=3) == []


@pytest.mark.parametrize(
    ("one", "other", "share"), [("a b", "b c", 1 / 3), ("a", "a", 1), ("a", "b", 0), ("", "", 0)]
)
def test_overlap_is_the_share_of_common_words(one: str, other: str, share: float) -> None:
    assert overlap(frozenset(one.split()), frozenset(other.split())) == pytest.approx(share)
