"""How alike the experts of a saved model are, weight by weight."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from moe_retrieval.model.loading import expert_state

if TYPE_CHECKING:
    from moe_retrieval.model.source import ModelSource


@dataclass(frozen=True, slots=True)
class WeightSimilarity:
    """Two experts: norm of their difference, in parts of general's norm, and the cosine of what each adds to
    general (0 where one of them is general, or equal to it).
    """

    one: str
    other: str
    distance: float
    cosine: float


def weight_similarities(source: ModelSource) -> list[WeightSimilarity]:
    """All pairs of experts of a model folder, low-rank ones merged."""
    import torch

    flat = []
    for number in range(len(source.experts)):
        state = expert_state(source, number, layers=source.moe_layers)
        # words and grown branches are not common to all experts
        names = sorted(name for name in state if name.endswith((".dense.weight", ".Wi.weight", ".Wo.weight")))
        flat.append(torch.cat([state[name].float().reshape(-1) for name in names]))
    general = flat[0]
    found = []
    for one, other in combinations(range(len(flat)), 2):
        a, b = flat[one] - general, flat[other] - general
        norms = a.norm() * b.norm()
        found.append(
            WeightSimilarity(
                source.experts[one],
                source.experts[other],
                distance=float((flat[one] - flat[other]).norm() / general.norm()),
                cosine=float(a @ b / norms) if norms > 0 else 0.0,
            )
        )
    return found
