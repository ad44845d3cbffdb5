"""Between the weights that a training began with and those it ended with: the best mix, by validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from moe_retrieval.training.validation import macro

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from moe_retrieval.training.validation import Scores


@dataclass(frozen=True, slots=True)
class Blend:
    """The share of the way from start to end that was chosen, its scores, and the macro of each one tried."""

    share: float
    scores: Scores
    tried: Mapping[float, float]


def trained_weights(model: Any) -> dict[str, torch.Tensor]:
    """Copies of all weights that require a gradient, by name."""
    named = model.named_parameters()
    return {name: weight.detach().clone() for name, weight in named if weight.requires_grad}


def blend(
    model: Any,
    start: Mapping[str, torch.Tensor],
    *,
    shares: Sequence[float],
    scores: Callable[[], Scores],
) -> Blend:
    """Leave `model` at the best of start + share x (end - start), by the macro of its scores.

    Ties go to the smaller share (Wortsman et al., WiSE-FT, CVPR 2022). Of a low-rank delta one factor moves,
    so that the delta scales.
    """
    end = trained_weights(model)
    found: dict[float, Scores] = {}
    for share in shares:
        _set(model, start, end, share)
        found[share] = scores()
    tried = {share: macro(own) for share, own in found.items()}
    best = min(tried, key=lambda share: (-tried[share], share))
    _set(model, start, end, best)
    return Blend(best, found[best], tried)


def _set(
    model: Any, start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], share: float
) -> None:
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, last in end.items():
            mixed = last if name.endswith(".down") else torch.lerp(start[name].to(last.device), last, share)
            weights[name].copy_(mixed)
