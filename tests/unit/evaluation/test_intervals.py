"""Intervals hold what they promise; paired tests find planted differences and no others."""

from __future__ import annotations

import numpy as np
import pytest

from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.intervals import (
    Interval,
    bootstrap_counts,
    bootstrap_mean,
    bootstrap_statistic,
    paired_bootstrap,
)

SEEDS = 300


def drawn(seed: int, count: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count)


def test_an_interval_holds_the_true_mean_about_95_times_of_100() -> None:
    found = [bootstrap_mean(drawn(seed), samples=400) for seed in range(SEEDS)]
    held = np.mean([one.low <= 0 <= one.high for one in found])
    assert 0.90 <= held <= 0.985


def test_the_interval_of_a_mean_is_as_wide_as_theory_has_it() -> None:
    values = drawn(1, count=2000)
    found = bootstrap_mean(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(2000), rel=0.08)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    assert bootstrap_mean(drawn(2), seed=5) == bootstrap_mean(drawn(2), seed=5)
    assert bootstrap_mean(drawn(2), seed=5) != bootstrap_mean(drawn(2), seed=6)


def test_values_that_are_all_alike_have_an_interval_of_no_width() -> None:
    assert bootstrap_mean([0.5] * 9) == Interval(0.5, 0.5, 0.5)


def test_groups_are_averaged_first_and_resampled_whole() -> None:
    values = [1.0] * 98 + [0.0, 0.5]
    groups = ["large"] * 98 + ["small", "small"]
    found = bootstrap_mean(values, groups=groups)
    assert found.mean == pytest.approx((1.0 + 0.25) / 2)
    assert (found.low, found.high) == (0.25, 1.0)  # one group or the other is all that a resample may hold


def test_copies_of_a_query_in_a_group_are_no_further_evidence() -> None:
    values = drawn(3, count=20)
    copies = np.repeat(values, 10)
    groups = np.repeat(np.arange(20), 10).tolist()
    alone, grouped, naive = (
        bootstrap_mean(values),
        bootstrap_mean(copies, groups=groups),
        bootstrap_mean(copies),
    )
    assert grouped.low == pytest.approx(alone.low)
    assert grouped.high == pytest.approx(alone.high)
    assert naive.high - naive.low < 0.5 * (alone.high - alone.low)


def test_a_paired_test_calls_no_difference_in_about_5_of_100() -> None:
    called = []
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        shared, noise = generator.normal(size=60), generator.normal(size=(2, 60))
        called.append(paired_bootstrap(shared + noise[0], shared + noise[1], samples=400).p_value < 0.05)
    assert 0.02 <= np.mean(called) <= 0.09


def test_a_paired_test_finds_a_planted_difference_that_unpaired_figures_hide() -> None:
    generator = np.random.default_rng(0)
    queries = generator.uniform(0, 1, size=200)  # hard and easy ones
    ours, theirs = queries + 0.02 + 0.03 * generator.normal(size=200), queries
    apart = bootstrap_mean(ours), bootstrap_mean(theirs)
    assert apart[0].low < apart[1].high
    found = paired_bootstrap(ours, theirs)
    assert found.p_value < 0.001
    assert 0 < found.low < found.difference < found.high
    assert found.difference == pytest.approx(0.02, abs=0.005)
    assert found.n == 200


def test_the_test_the_other_way_round_is_the_mirror() -> None:
    ours, theirs = drawn(4), drawn(5)
    one, other = paired_bootstrap(ours, theirs), paired_bootstrap(theirs, ours)
    assert other.difference == -one.difference
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert other.p_value == one.p_value


def test_a_system_against_itself_is_no_better() -> None:
    found = paired_bootstrap(drawn(6), drawn(6))
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_any_statistic_has_an_interval() -> None:
    values = drawn(7)
    found = bootstrap_statistic(lambda rows: float(rows.mean()), values, samples=2000, seed=0)
    wanted = bootstrap_mean(values)
    assert (found.mean, found.low, found.high) == pytest.approx((wanted.mean, wanted.low, wanted.high))


def test_arrays_are_resampled_together() -> None:
    values = drawn(8)
    found = bootstrap_statistic(lambda one, two: float(np.abs(one - two).max()), values, values.copy())
    assert found == Interval(0, 0, 0)


def test_resamples_without_the_statistic_are_left_out() -> None:
    labels = np.array([1, 0, 0])

    def share_of_first(rows: np.ndarray) -> float:
        return float(rows.mean()) if rows.any() else float("nan")

    found = bootstrap_statistic(share_of_first, labels, samples=500)
    assert found.low == pytest.approx(1 / 3)


def test_counts_are_how_often_each_item_was_drawn() -> None:
    counts = bootstrap_counts(lambda drawn: drawn.astype(float), 7, samples=50, seed=1)
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()


def test_many_items_are_resampled_in_pieces_all_the_same() -> None:
    found = bootstrap_mean(drawn(9, count=900_000), samples=5)  # two resamples fit into memory at once
    assert found.low < found.mean < found.high


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: bootstrap_mean([]), "no values"),
        (lambda: bootstrap_mean([1.0, float("nan")]), "value 1 is not finite"),
        (lambda: bootstrap_mean([1.0, 2.0], groups=["a"]), "1 groups do not fit 2 values"),
        (lambda: bootstrap_mean([1.0], samples=0), "samples must be at least 1"),
        (lambda: paired_bootstrap([1.0, 2.0], [1.0]), "2 values cannot be paired with 1"),
        (lambda: paired_bootstrap([1.0], [0.0]), "needs two items"),
        (lambda: bootstrap_statistic(np.mean, np.array([])), "not empty"),
        (lambda: bootstrap_statistic(lambda _rows: float("nan"), np.ones(3)), "no resample has the figure"),
    ],
)
def test_what_cannot_be_resampled_is_said(call: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()  # type: ignore[operator]


def test_a_figure_without_a_value_is_null_in_json() -> None:
    assert Interval(float("inf"), float("nan"), 1.0).to_dict() == {"mean": None, "low": None, "high": 1.0}
