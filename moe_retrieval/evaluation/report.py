"""What an evaluation found: models side by side on the same data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe_retrieval.evaluation.compare import Difference
    from moe_retrieval.evaluation.judging import RankingEvaluation
    from moe_retrieval.evaluation.matrix import Matrix
    from moe_retrieval.evaluation.pairs import PairEvaluation


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Figures of every model on every set, and how models differ from the first one there.

    `models`: their names in what follows; `warnings`: what a reader of the figures must know; `seed` and
    `samples`: of the bootstrap, which make the report again.
    """

    models: tuple[str, ...]
    pairs: tuple[PairEvaluation, ...]
    rankings: tuple[RankingEvaluation, ...]
    matrices: tuple[Matrix, ...]
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]
    seed: int
    samples: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "models": list(self.models),
            "pairs": [one.to_dict() for one in self.pairs],
            "rankings": [one.to_dict() for one in self.rankings],
            "matrices": [one.to_dict() for one in self.matrices],
            "differences": [one.to_dict() for one in self.differences],
            "warnings": list(self.warnings),
            "seed": self.seed,
            "samples": self.samples,
        }
