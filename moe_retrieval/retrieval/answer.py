"""What a query gets back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.types import Across, Hit, Route


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits of one query, the route it took, and the generation it saw.

    `timings`: seconds by stage (`stages.Stage`); of what ran side by side the longest, of what a batch shared
    an equal part. `fused`: how the lists of several vector spaces were joined; None where one was searched.
    `notes`: sentences on what was done in place of what was asked, such as going without a reranker that took
    too long.
    """

    query: str
    hits: tuple[Hit, ...]
    routes: tuple[Route, ...]
    generation: int
    timings: Mapping[str, float] = field(default_factory=dict, compare=False)
    fused: Across | None = None
    notes: tuple[str, ...] = ()

    @property
    def abstained(self) -> bool:
        """Whether the text is like none of the domains, so that all were searched."""
        return any(route.abstained for route in self.routes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
