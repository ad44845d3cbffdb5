"""What a training may be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from moe_retrieval.training.losses import LossOptions
from moe_retrieval.training.pair_model import GateWeights
from moe_retrieval.training.trainer import FitOptions


class Recipe(StrEnum):
    """What is trained.

    `expert`: one domain's expert, all else frozen. `joint`: trunk and an expert per domain together.
    `polish`: first the trunk, by all domains together, then each domain's expert alone. `dense`: the trunk
    with its one expert: the baseline. `router`: gates that choose the experts of a model.
    """

    EXPERT = "expert"
    JOINT = "joint"
    POLISH = "polish"
    DENSE = "dense"
    ROUTER = "router"


FULL_ABOVE = 20_000
"""Pairs above which an expert is trained in full: on fewer it overfits, and a low-rank one does not."""

RATES = {"low-rank": 1e-3, "full": 2e-5, "trunk": 5e-5, "gates": 1e-3}
"""Usual learning rates by what is trained."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How a recipe goes about its work.

    `rank`: of low-rank experts, 0: full ones, None: by the number of pairs. `batch`: pairs per step; `chunk`:
    texts encoded at once in large batches, 0: all. `max_length`: tokens of a text that are looked at.
    `rate` None: the usual one of what is trained. `shares`: of the way from start to end, among which
    validation chooses. `at_least`: pairs without which a domain is refused. `routing`, `top_k`, `gates`: of
    the recipe `router`. `first`: with what `polish` begins, dense or joint. `enforce`: experts that the gate
    refuses are dropped; a study may want to see them all the same.
    """

    recipe: Recipe = Recipe.EXPERT
    rank: int | None = None
    batch: int = 32
    chunk: int = 0
    max_length: int = 128
    rate: float | None = None
    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    at_least: int = 50
    queries: int = 400
    loss: LossOptions = field(default_factory=LossOptions)
    fit: FitOptions = field(default_factory=FitOptions)
    routing: str = "sentence"
    top_k: int = 1
    gates: GateWeights = field(
        default_factory=lambda: GateWeights(mutual_information=0.1, load_balance=0.01, specified_expert=1.0)
    )
    first: Recipe = Recipe.DENSE
    enforce: bool = True

    def rank_for(self, pairs: int) -> int:
        """The rank of an expert that so many pairs train; 0: a full one."""
        if self.rank is not None:
            return self.rank
        return 0 if pairs > FULL_ABOVE else 8
