"""The best mix of start and end: chosen by scores, left in the model, ties to the smaller share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from moe_retrieval.model import surgery
from moe_retrieval.training.blending import blend, trained_weights

SHARES = (0.25, 0.5, 0.75, 1.0)


class Line(nn.Module):
    """One weight on its way from 0 to 1, beside one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = nn.Parameter(torch.zeros(2))
        self.frozen = nn.Parameter(torch.full((2,), 7.0), requires_grad=False)


def trained() -> tuple[Line, dict[str, torch.Tensor]]:
    model = Line()
    start = trained_weights(model)
    with torch.no_grad():
        model.moved.fill_(1.0)
    return model, start


def best_at(model: Line, *peaks: float) -> Callable[[], dict[str, Any]]:
    """Scores of one domain per peak: the nearer the weight is to it, the better."""
    return lambda: {
        f"domain {at}": np.full(3, -abs(float(model.moved.detach()[0]) - peak))
        for at, peak in enumerate(peaks)
    }


@pytest.mark.parametrize("peak", SHARES)
def test_the_share_with_the_best_scores_is_left_in_the_model(peak: float) -> None:
    model, start = trained()
    found = blend(model, start, shares=SHARES, scores=best_at(model, peak))
    assert found.share == peak
    assert model.moved.tolist() == [peak, peak]
    assert model.frozen.tolist() == [7.0, 7.0]
    assert list(found.tried) == list(SHARES)
    np.testing.assert_array_equal(found.scores["domain 0"], np.zeros(3))


def test_the_macro_over_domains_decides() -> None:
    model, start = trained()
    assert blend(model, start, shares=SHARES, scores=best_at(model, 0.5, 0.75, 1.0)).share == 0.75


@pytest.mark.parametrize("shares", [(0.5, 1.0), (1.0, 0.5)])
def test_ties_go_to_the_smaller_share(shares: tuple[float, ...]) -> None:
    model, start = trained()
    found = blend(model, start, shares=shares, scores=lambda: {"cvd": np.ones(4)})
    assert found.share == 0.5


def test_the_whole_way_leaves_the_end_to_the_byte() -> None:
    model = nn.Linear(50, 50)
    start = trained_weights(model)
    with torch.no_grad():
        model.weight.add_(torch.randn(50, 50) * 1e-3)
    end = model.weight.detach().clone()
    blend(model, start, shares=(1.0,), scores=lambda: {"cvd": np.ones(1)})
    assert torch.equal(model.weight, end)


def test_copies_of_the_start_do_not_move_with_the_model() -> None:
    _, start = trained()
    assert list(start) == ["moved"]
    assert start["moved"].tolist() == [0.0, 0.0]


def test_half_the_way_of_a_low_rank_expert_is_half_its_delta(tiny_model: Path) -> None:
    model = surgery.load(tiny_model)
    surgery.add_domain(model, "cvd", rank=2)
    model.requires_grad_(requires_grad=False)
    linear = model.expert_layers[0][1].experts[1].output["dense"]
    for factor in (linear.up, linear.down):
        factor.requires_grad_(requires_grad=True)
    start = trained_weights(model)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for factor in (linear.up, linear.down):
            factor.add_(torch.randn(factor.shape, generator=draw))
    whole = (linear.up @ linear.down).detach()
    blend(model, start, shares=(0.5,), scores=lambda: {"cvd": np.ones(1)})
    torch.testing.assert_close((linear.up @ linear.down).detach(), whole / 2)
