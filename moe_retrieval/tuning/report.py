"""What tuning found: what was chosen, what it is worth on held-out queries, and whether it was kept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.calibration import DomainCalibration, Tuning
    from moe_retrieval.evaluation.intervals import PairedTest


class Part(StrEnum):
    """What can be tuned."""

    WEIGHTS = "weights"
    ROUTER = "router"
    CALIBRATION = "calibration"


@dataclass(frozen=True, slots=True)
class Trial:
    """One part: nDCG@10 on held-out queries as the store was and as chosen; None where nothing was tried.

    `searched`: domains searched per query, before and after, where that is what changes. `kept`: it is better
    there. `reason`: why nothing was tried, else empty.
    """

    part: Part
    before: float | None = None
    after: float | None = None
    test: PairedTest | None = None
    searched: tuple[float, float] | None = None
    kept: bool = False
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "part": self.part.value,
            "before": self.before,
            "after": self.after,
            "test": self.test.to_dict() if self.test else None,
            "searched": self.searched,
            "kept": self.kept,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class TuneReport:
    """Queries to choose by and held out, what was chosen, its trials; `generation`: the one that has what was
    kept, 0 for none.
    """

    source: str
    queries: int
    held: int
    tuning: Tuning
    calibration: Mapping[str, DomainCalibration]
    trials: tuple[Trial, ...]
    generation: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def gains(self) -> bool:
        return any(one.kept for one in self.trials)

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "queries": self.queries,
            "held": self.held,
            "tuning": self.tuning.to_dict(),
            "calibration": {name: one.to_dict() for name, one in self.calibration.items()},
            "trials": [one.to_dict() for one in self.trials],
            "generation": self.generation,
            "warnings": list(self.warnings),
        }
