"""What a training did: the weights it leaves, how it went, and what validation says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe_retrieval.training.blending import Blend
    from moe_retrieval.training.gate import Verdict
    from moe_retrieval.training.options import Recipe
    from moe_retrieval.training.trainer import Fitted
    from moe_retrieval.training.validation import Scores


@dataclass(frozen=True, slots=True)
class Course:
    """One fit: of what, by how many pairs and texts seen, the losses, and the mix that was kept."""

    what: str
    pairs: int
    texts: int
    fitted: Fitted
    blend: Blend

    def to_dict(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "pairs": self.pairs,
            "texts_seen": self.texts,
            "steps": self.fitted.steps,
            "losses": {str(step): round(loss, 5) for step, loss in self.fitted.losses.items()},
            "validation_ndcg_10": {str(step): round(one, 5) for step, one in self.fitted.ndcg.items()},
            "share": self.blend.share,
            "shares_tried": {str(share): round(one, 5) for share, one in self.blend.tried.items()},
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """A recipe's end. `verdicts`: each trained expert against general in the same model; `gains`: each
    domain against the untouched model; `base`: nDCG@10 of that, query by query; `head`: the pooling head, if
    the model has one.
    """

    recipe: Recipe
    model: Any
    head: Any = None
    courses: tuple[Course, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    gains: tuple[Verdict, ...] = ()
    base: Scores | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())

    @property
    def accepted(self) -> tuple[str, ...]:
        """Domains whose trained expert the gate let through."""
        return tuple(verdict.domain for verdict in self.verdicts if verdict.accepted)

    def to_dict(self) -> dict[str, Any]:
        return {
            "recipe": str(self.recipe),
            "accepted": list(self.accepted),
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "gains": [gain.to_dict() for gain in self.gains],
            "courses": [course.to_dict() for course in self.courses],
            "seconds": self.seconds,
            "notes": list(self.notes),
        }
