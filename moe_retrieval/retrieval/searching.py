"""The searches of one domain: by vector and by full text, timed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.retrieval.fusion import Searched, search_depth
from moe_retrieval.retrieval.stages import Stage, Stages
from moe_retrieval.types import Fusing, Mode

if TYPE_CHECKING:
    import numpy as np

    from moe_retrieval.filters import Filter
    from moe_retrieval.retrieval.encoding import Vectors
    from moe_retrieval.retrieval.snapshot import Snapshot
    from moe_retrieval.storage.found import Found
    from moe_retrieval.types import Route


@dataclass(frozen=True, slots=True)
class Ask:
    """One query, parsed: what the searches need, and how their lists are joined."""

    text: str
    k: int
    mode: Mode
    where: Filter | None = None
    fusing: Fusing = field(default_factory=Fusing)

    @property
    def depth(self) -> int:
        return search_depth(self.k)


def search_domain(snapshot: Snapshot, route: Route, ask: Ask, vectors: Vectors, *, at: int) -> Searched:
    """Vector and full-text search of one domain for the text at place `at`.

    Where a damaged table has no text to search, hybrid goes on by vector and says so.
    """
    stages = Stages()
    vector: Found | None = None
    text: Found | None = None
    if ask.mode is not Mode.TEXT:
        with stages.of(Stage.VECTOR):
            vector = _by_vector(snapshot, route.domain, ask, vectors[snapshot.space(route.domain), at])
    if ask.mode is not Mode.VECTOR:
        with stages.of(Stage.TEXT):
            text = _by_text(snapshot, route.domain, ask, alone=vector is None)
    return Searched(
        route.domain,
        space=snapshot.space(route.domain),
        probability=route.probability,
        vector=vector,
        text=text,
        route_power=snapshot.route_power,
        seconds=dict(stages.seconds),
    )


def _by_vector(snapshot: Snapshot, domain: str, ask: Ask, vector: np.ndarray) -> Found:
    allowed = None
    if ask.where is not None:
        allowed = snapshot.view(domain).matching(ask.where, known=snapshot.fields())
    return snapshot.index(domain).search(vector[None], k=ask.depth, allowed=allowed)[0]


def _by_text(snapshot: Snapshot, domain: str, ask: Ask, *, alone: bool) -> Found | None:
    known = snapshot.fields() if ask.where is not None else ()
    try:
        return snapshot.view(domain).search_text(ask.text, k=ask.depth, where=ask.where, known=known)
    except StoreCorruptError as error:
        if alone:
            raise
        cure = "moeret doctor --repair"
        snapshot.notify(f"domain {domain} is searched by vector only: {error.message}; {cure}")
        return None
