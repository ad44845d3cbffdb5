"""Exact rankings, and figures equal to trec_eval's."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_retrieval.errors import MissingExtraError, UsageError
from moe_retrieval.evaluation.rankings import per_query, quick_ndcg, rank_documents, ranking_metrics


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def vectors(count: int, *, seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, 16)))


def test_the_best_documents_come_in_order() -> None:
    queries, documents = vectors(20, seed=0), vectors(300, seed=1)
    positions, scores = rank_documents(queries, documents, k=50)
    wanted = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :50]
    np.testing.assert_array_equal(positions, wanted)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ documents.T, wanted, axis=1), atol=1e-6)


def test_blocks_change_nothing() -> None:
    queries, documents = vectors(23, seed=2), vectors(60, seed=3)
    whole, blocks = rank_documents(queries, documents, k=9), rank_documents(queries, documents, k=9, block=4)
    np.testing.assert_array_equal(whole[0], blocks[0])


def test_equal_scores_are_ranked_by_position_even_at_the_cut() -> None:
    documents = np.eye(4, dtype=np.float32)[[1, 0, 0, 1, 0, 0]]
    positions, scores = rank_documents(np.eye(4, dtype=np.float32)[:1], documents, k=3)
    assert positions.tolist() == [[1, 2, 4]]
    assert scores.tolist() == [[1, 1, 1]]


def test_a_k_beyond_the_collection_ranks_it_all() -> None:
    positions, scores = rank_documents(vectors(2, seed=4), vectors(5, seed=5), k=100)
    assert positions.shape == scores.shape == (2, 5)
    assert sorted(positions[0].tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("queries", "documents", "k", "said"),
    [
        (vectors(1, seed=0), vectors(2, seed=0), 0, "k must be at least 1"),
        (vectors(1, seed=0), vectors(2, seed=0)[:0], 5, "cannot be ranked"),
        (vectors(1, seed=0)[:, :8], vectors(2, seed=0), 5, "cannot be ranked"),
    ],
)
def test_an_impossible_ranking_is_refused(
    queries: np.ndarray, documents: np.ndarray, k: int, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        rank_documents(queries, documents, k=k)


def test_a_case_by_hand_with_grades() -> None:
    run = {"q": {"d2": 0.9, "d3": 0.5, "d1": 0.4}}
    found = per_query(run, {"q": {"d1": 1, "d2": 0, "d3": 2, "d4": 3}})
    gain = 2 / np.log2(3) + 1 / np.log2(4)
    ideal = 3 / np.log2(2) + 2 / np.log2(3) + 1 / np.log2(4)
    assert found["ndcg_10"]["q"] == pytest.approx(gain / ideal)
    assert found["recall_10"]["q"] == found["recall_100"]["q"] == pytest.approx(2 / 3)
    assert found["mrr_10"]["q"] == 0.5
    assert found["map_100"]["q"] == pytest.approx((1 / 2 + 2 / 3) / 3)


def test_cutoffs_are_heeded() -> None:
    run = {"q": {f"x{rank:03d}": 1 - rank / 1000 for rank in range(150)}}
    found = per_query(run, {"q": {"x010": 1, "x120": 1}})
    assert (found["ndcg_10"]["q"], found["recall_10"]["q"], found["mrr_10"]["q"]) == (0, 0, 0)
    assert found["recall_100"]["q"] == 0.5
    assert found["map_100"]["q"] == pytest.approx(1 / 11 / 2)
    tenth = per_query(run, {"q": {"x009": 1}})
    assert tenth["mrr_10"]["q"] == pytest.approx(0.1)


def test_a_judged_query_that_the_run_lacks_counts_0() -> None:
    run = {"a": {"d": 1.0}, "empty": {}, "unjudged": {"d": 1.0}}
    found = ranking_metrics(run, {"a": {"d": 1}, "b": {"d": 1}, "empty": {"d": 1}, "c": {"d": 0}})
    assert found.queries == 4
    assert found.ndcg_10 == found.mrr_10 == found.map_100 == pytest.approx(1 / 4)
    assert list(found.to_dict()) == ["ndcg_10", "recall_10", "recall_100", "mrr_10", "map_100", "queries"]


def test_without_judgements_there_are_no_figures() -> None:
    with pytest.raises(UsageError, match="no query is judged"):
        per_query({"a": {"d": 1.0}}, {})


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(MissingExtraError, match=r"moeret\[train\]"):
        per_query({}, {"a": {"d": 1}})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.dictionaries(st.integers(0, 24), st.integers(-1, 4), max_size=25), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_the_quick_ndcg_is_trec_evals(judged: list[dict[int, int]], seed: int) -> None:
    generator = np.random.default_rng(seed)
    positions = np.array([generator.permutation(25) for _ in judged])
    run = {
        str(row): {f"d{place}": 1 / rank for rank, place in enumerate(own, start=1)}
        for row, own in enumerate(positions.tolist())
    }
    qrels = {
        str(row): {f"d{place}": grade for place, grade in own.items()} or {"none": 0}
        for row, own in enumerate(judged)
    }
    wanted = list(per_query(run, qrels)["ndcg_10"].values())
    np.testing.assert_allclose(quick_ndcg(positions, judged), wanted, atol=1e-9)


def test_the_quick_ndcg_takes_sets_and_short_rankings() -> None:
    positions = np.array([[2, 0, 1], [0, 1, 2]])
    found = quick_ndcg(positions, [{2, 7}, set()])
    assert found.tolist() == pytest.approx([1 / (1 + 1 / np.log2(3)), 0])
    with pytest.raises(UsageError, match="2 rankings do not fit 1 judgements"):
        quick_ndcg(positions, [{2}])
