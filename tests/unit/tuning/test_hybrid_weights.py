"""How weights are chosen."""

from __future__ import annotations

import math

import numpy as np

from moe_retrieval.tuning.weights import DEFAULT, WAYS, choose, smoothing
from moe_retrieval.types import Within

WEIGHTS = np.array([way.weight for way in WAYS])
WEIGHTED = np.array([way.within is Within.WEIGHTED for way in WAYS])


def curves(best: list[float], *, noise: float, seed: int = 0) -> np.ndarray:
    """nDCG of queries (n, ways), each highest at its own weight; ways without a weight are poor."""
    generator = np.random.default_rng(seed)
    values = 0.8 - (WEIGHTS[None, :] - np.array(best)[:, None]) ** 2
    values[:, ~WEIGHTED] -= 0.3
    return np.clip(values + generator.normal(0, noise, values.shape), 0, 1)


def weight(choice: object, domain: str = "") -> float:
    return WAYS[choice.of(domain)].weight  # type: ignore[attr-defined]


def test_the_weight_that_is_best_is_found_through_noise() -> None:
    choice = choose(curves([0.3] * 200, noise=0.05), ["cvd"] * 200)
    assert abs(weight(choice) - 0.3) <= 0.1


def test_domains_that_differ_get_weights_of_their_own() -> None:
    values = curves([0.2] * 150 + [0.9] * 150, noise=0.05)
    choice = choose(values, ["cacm"] * 150 + ["medquad"] * 150)
    assert choice.strength < math.inf
    assert abs(weight(choice, "cacm") - 0.2) <= 0.15
    assert abs(weight(choice, "medquad") - 0.9) <= 0.15


def test_a_domain_of_few_queries_is_drawn_to_the_store() -> None:
    """Three queries that say 0 do not outweigh two hundred that say 0.5, where two sides differ a little."""
    values = curves([0.4] * 100 + [0.6] * 100 + [0.0] * 3, noise=0.02)
    choice = choose(values, ["a"] * 100 + ["b"] * 100 + ["few"] * 3)
    assert choice.strength < math.inf
    assert weight(choice, "few") > 0.2


def test_what_is_not_better_in_folds_than_the_default_is_not_chosen() -> None:
    generator = np.random.default_rng(3)
    kept = 0
    for seed in range(10):
        values = generator.uniform(0, 0.5, (40, len(WAYS)))  # every way as good as any other
        values[:, WAYS.index(DEFAULT)] += 0.3
        choice = choose(values, ["a"] * 20 + ["b"] * 20, seed=seed)
        kept += WAYS[choice.store] == DEFAULT and not choice.domains
    assert kept == 10


def test_a_way_without_weights_can_win_and_then_holds_for_all() -> None:
    values = curves([0.5] * 120, noise=0.02)
    values[:, [way.within is Within.RRF for way in WAYS]] += 0.5
    choice = choose(values, ["a"] * 60 + ["b"] * 60)
    assert WAYS[choice.store].within is Within.RRF
    assert not choice.domains


def test_the_same_queries_give_the_same_choice() -> None:
    values = curves([0.2] * 30 + [0.8] * 30, noise=0.2)
    labels = ["a"] * 30 + ["b"] * 30
    assert choose(values, labels) == choose(values, labels)


def test_smoothing_averages_neighbours_and_leaves_ways_without_a_weight_alone() -> None:
    kernel = smoothing(WAYS)
    np.testing.assert_allclose(kernel.sum(axis=1), 1)
    np.testing.assert_allclose(kernel[10, 8:13], np.array([1, 2, 3, 2, 1]) / 9)
    assert kernel[10, 6] == kernel[10, -1] == 0
    assert kernel[-1, -1] == 1


def test_one_query_is_no_evidence_and_nothing_fails() -> None:
    choice = choose(curves([0.1], noise=0.0), ["a"])
    assert WAYS[choice.store] == DEFAULT
