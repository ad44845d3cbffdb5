"""What a training may be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING

from moe_retrieval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_retrieval.model.source import ModelSource

_COSINE_START, _DOT_START = 0.05, 0.7


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


class LossName(StrEnum):
    """What the scores of a batch are held against.

    `mnr`: each a finds its b among all b (multiple negatives ranking; Henderson et al., arXiv 1705.00652);
    `symmetric`: each b finds its a, too (Radford et al., CLIP, ICML 2021); `mnr-plus`: the target of a row is
    the row that its texts, by themselves, are most like (Hallee et al., arXiv 2401.15713); `triplet`: a is
    nearer to b than to the hardest text of the batch, by a margin.
    """

    MNR = "mnr"
    SYMMETRIC = "symmetric"
    MNR_PLUS = "mnr-plus"
    TRIPLET = "triplet"


class Similarity(StrEnum):
    """How two vectors are compared."""

    COSINE = "cosine"
    DOT = "dot"


@dataclass(frozen=True, slots=True)
class LossOptions:
    """A loss. `temperature` divides the scores, None: the usual start; `learned`: it is trained, too."""

    name: LossName = LossName.MNR
    similarity: Similarity = Similarity.COSINE
    temperature: float | None = None
    learned: bool = False
    margin: float = 0.2

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 < self.temperature < inf:
            raise UsageError(
                f"the temperature is {self.temperature:g}", hint="give one above 0, such as 0.05"
            )

    @property
    def start(self) -> float:
        """The temperature at the start: 0.05 for cosines, the paper's 0.7 for dot products."""
        usual = _COSINE_START if self.similarity is Similarity.COSINE else _DOT_START
        return usual if self.temperature is None else self.temperature


@dataclass(frozen=True, slots=True)
class GateWeights:
    """How much each loss that teaches a learned gate adds to the loss of the pairs."""

    mutual_information: float = 0.0
    load_balance: float = 0.0
    specified_expert: float = 0.0


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How weights are fitted.

    `steps` optimiser steps of one batch each; `warmup`: share of them in which the rate rises, after which
    it falls to zero as a cosine; `evaluations`: how often validation is looked at; `patience`: after how many
    looks without a gain training stops; 0: never. `bf16` None: where the device multiplies it.
    """

    steps: int = 200
    rate: float = 2e-5
    warmup: float = 0.1
    decay: float = 0.01
    evaluations: int = 4
    patience: int = 3
    seed: int = 0
    bf16: bool | None = None
    device: str = ""
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"a training of {self.steps} steps is none", hint="200 are usual")
        if not 0 < self.rate < inf:
            raise UsageError(f"the learning rate is {self.rate:g}", hint="give one above 0, such as 2e-5")


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How a recipe goes about its work.

    `rank`: of low-rank experts, 0: full ones, None: by the number of pairs. `batch`: pairs per step; `chunk`:
    texts encoded at once in large batches, 0: all. `max_length`: tokens of a text that are looked at.
    `rate` None: the usual one of what is trained. `shares`: of the way from start to end, among which
    validation chooses. `queries`: of each domain's validation pairs, so many at
    most are looked at. `at_least`: pairs without which a domain is refused. `routing`, `top_k`, `gates`: of
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
    queries: int = 200
    loss: LossOptions = field(default_factory=LossOptions)
    fit: FitOptions = field(default_factory=FitOptions)
    routing: str = "sentence"
    top_k: int = 1
    gates: GateWeights = field(
        default_factory=lambda: GateWeights(mutual_information=0.1, load_balance=0.01, specified_expert=1.0)
    )
    first: Recipe = Recipe.DENSE
    enforce: bool = True

    def __post_init__(self) -> None:
        if self.first not in (Recipe.DENSE, Recipe.JOINT):
            raise UsageError(f"polish cannot begin with {self.first}", hint="with dense, or with joint")
        if self.routing not in ("sentence", "token"):
            raise UsageError(f"no gate is called {self.routing!r}", hint="sentence or token")
        if self.rate is not None and not 0 < self.rate < inf:
            raise UsageError(f"the learning rate is {self.rate:g}", hint="give one above 0, such as 2e-5")
        if self.batch < 2:
            raise UsageError("in a batch of one pair nothing can be wrong", hint="32 pairs are usual")

    def check_fit(self, source: ModelSource, domains: Sequence[str]) -> None:
        """Refuse a recipe that could do nothing for the model, or would change what nobody asked for.

        Raises:
            UsageError: a router without experts, an expert where a gate chooses, or one of several domains.
        """
        if self.recipe is Recipe.ROUTER and len(source.experts) < 2:
            raise UsageError(
                f"{source.name} has no experts among which a gate could choose",
                hint="--recipe joint makes some",
            )
        if self.recipe in (Recipe.EXPERT, Recipe.JOINT, Recipe.POLISH) and source.roster.learned:
            raise UsageError(
                f"a gate chooses the experts of {source.name}, not the domain: none is trained for one",
                hint="--recipe router teaches the gate",
            )
        served = list(source.domains.values())
        for domain in domains if self.recipe is Recipe.EXPERT else ():
            expert = source.domains.get(domain, "")
            if served.count(expert) > 1:
                raise UsageError(
                    f"the expert {expert!r} of {domain!r} serves other domains, too, which would change",
                    hint="--recipe joint trains it for all of them",
                )

    def rank_for(self, pairs: int) -> int:
        """The rank of an expert that so many pairs train; 0: a full one."""
        if self.rank is not None:
            return self.rank
        return 0 if pairs > FULL_ABOVE else 8
