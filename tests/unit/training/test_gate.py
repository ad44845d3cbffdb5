"""The gate: a gain that chance does not make passes; none, a loss and too few queries do not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from moe_retrieval.errors import UsageError
from moe_retrieval.training.gate import judge


def scores(*, seed: int = 0, count: int = 200) -> Any:
    return np.random.default_rng(seed).uniform(0.2, 0.8, size=count)


def noise(*, seed: int = 1, count: int = 200) -> Any:
    return np.random.default_rng(seed).normal(0, 0.1, size=count)


def test_a_planted_gain_is_accepted() -> None:
    before = scores()
    verdict = judge("cvd", before + 0.03 + noise(), before)
    assert verdict.accepted
    assert verdict.test.low > 0
    assert verdict.after - verdict.before == pytest.approx(verdict.test.difference)


def test_a_planted_loss_is_refused() -> None:
    before = scores()
    verdict = judge("cvd", before - 0.03 + noise(), before)
    assert not verdict.accepted
    assert verdict.test.high < 0


def test_no_difference_is_refused() -> None:
    before = scores()
    assert not judge("cvd", before.copy(), before).accepted


def test_chance_alone_seldom_passes() -> None:
    accepted = [judge("cvd", scores() + noise(seed=seed), scores()).accepted for seed in range(40)]
    assert sum(accepted) <= 4  # 2.5% on this side of the interval; 1 is expected


def test_a_gain_in_a_few_queries_is_not_sure_enough() -> None:
    before = scores(count=8)
    assert not judge("cvd", before + 0.03 + noise(count=8), before).accepted


def test_equal_queries_give_equal_verdicts() -> None:
    before = scores()
    one, other = (judge("cvd", before + noise(), before, seed=seed) for seed in (0, 0))
    assert one == other


def test_a_verdict_needs_two_queries() -> None:
    with pytest.raises(UsageError, match="two items"):
        judge("cvd", scores(count=1), scores(count=1))


def test_a_verdict_can_be_written_as_json() -> None:
    told = json.loads(json.dumps(judge("cvd", scores() + 0.1, scores()).to_dict()))
    assert (told["domain"], told["accepted"], told["test"]["n"]) == ("cvd", True, 200)
