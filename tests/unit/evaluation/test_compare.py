"""Models against the first one: planted differences are found, chance is not."""

from __future__ import annotations

import numpy as np
import pytest

from moe_retrieval.corpus.pairs import Pair
from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.compare import Difference, compare
from moe_retrieval.evaluation.intervals import paired_bootstrap
from moe_retrieval.evaluation.judging import RankingEvaluation, judge_run
from moe_retrieval.evaluation.pairs import PairEvaluation, judge_scores


def pairs_judged(model: str, *, skill: float, seed: int, count: int = 200) -> PairEvaluation:
    """The same pairs in two domains, told apart as well as `skill` says; what is hard is hard for all."""
    generator = np.random.default_rng(0)
    labels, hardness = generator.integers(0, 2, size=count), generator.normal(size=count)
    noise = np.random.default_rng(seed).normal(size=count)
    scores = np.tanh(0.3 * skill * labels + 0.3 * hardness + 0.1 * noise)
    pairs = [Pair("a", "b", ("cvd", "skin")[place % 2], int(label)) for place, label in enumerate(labels)]
    return judge_scores(scores, pairs, model=model, samples=400)


def ranked(model: str, *, lift: float, seed: int, queries: int = 120) -> RankingEvaluation:
    """One relevant document of 30 per query, whose score is `lift` above what its hardness gives it."""
    hardness = np.random.default_rng(0).normal(size=queries)
    generator = np.random.default_rng(seed)
    run = {}
    for place in range(queries):
        scores = generator.normal(size=30)
        scores[0] = hardness[place] + lift + 0.3 * generator.normal()
        run[f"q{place}"] = {f"d{at}": float(score) for at, score in enumerate(scores)}
    qrels = {name: {"d0": 1} for name in run}
    domains = {name: ("cvd", "skin")[place % 2] for place, name in enumerate(run)}
    return judge_run(run, qrels, model=model, data="made", domains=domains, samples=400)


def chosen(found: list[Difference], *, scope: str, measure: str) -> Difference:
    (one,) = [one for one in found if (one.scope, one.measure) == (scope, measure)]
    return one


def test_a_planted_difference_in_pairs_is_found_in_every_scope() -> None:
    found = compare([pairs_judged("base", skill=1, seed=1), pairs_judged("ours", skill=2, seed=2)])
    assert len(found) == 5 * 2
    for one in found:
        assert (one.model, one.against) == ("ours", "base")
        assert one.test.p_value < 0.05, one
        assert one.test.difference > 0
    assert chosen(found, scope="macro", measure="roc_auc").test.n == 200


def test_a_planted_difference_in_rankings_is_found_and_is_the_mean_over_queries() -> None:
    base, ours = ranked("base", lift=1, seed=1), ranked("ours", lift=2, seed=2)
    one = chosen(compare([base, ours]), scope="pooled", measure="ndcg_10")
    plain = paired_bootstrap(
        list(ours.per_query["ndcg_10"].values()), list(base.per_query["ndcg_10"].values())
    )
    assert one.test.difference == pytest.approx(plain.difference)
    assert one.test.low == pytest.approx(plain.low, abs=0.02)
    assert one.test.p_value < 0.01


def test_models_that_differ_by_chance_are_seldom_called_different() -> None:
    called = []
    for seed in range(40):
        found = compare([ranked("a", lift=1, seed=2 * seed), ranked("b", lift=1, seed=2 * seed + 1)])
        called.append(chosen(found, scope="macro", measure="ndcg_10").test.p_value < 0.05)
    assert np.mean(called) <= 0.15


def test_every_model_is_compared_with_the_first_on_the_same_data() -> None:
    one, two, three = (ranked(name, lift=1, seed=at) for at, name in enumerate("abc"))
    alone = pairs_judged("a", skill=1, seed=1)
    found = compare([one, alone, two, three])
    assert {(each.kind, each.model, each.against) for each in found} == {
        ("ranking", "b", "a"),
        ("ranking", "c", "a"),
    }


def test_a_model_against_itself_differs_by_nothing() -> None:
    found = compare([ranked("a", lift=1, seed=1), ranked("b", lift=1, seed=1)])
    assert all(one.test.difference == 0 and one.test.p_value == 1 for one in found)


def test_figures_of_different_items_are_not_compared() -> None:
    with pytest.raises(UsageError, match="figures of different items"):
        compare([ranked("a", lift=1, seed=1), ranked("b", lift=1, seed=1, queries=100)])


def test_a_scope_of_one_query_has_no_test() -> None:
    run = {"q": {"d": 1.0}}
    one, two = (judge_run(run, {"q": {"d": 1}}, model=name, data="x", samples=10) for name in "ab")
    assert compare([one, two]) == []


def test_a_difference_is_flat_in_json() -> None:
    found = compare([ranked("a", lift=1, seed=1), ranked("b", lift=1, seed=3)])[0]
    assert list(found.to_dict()) == [
        "kind", "data", "scope", "measure", "model", "against", "difference", "low", "high", "p_value", "n",
    ]  # fmt: skip
