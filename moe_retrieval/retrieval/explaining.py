"""Why a text goes where it goes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import UsageError
from moe_retrieval.types import Mode

if TYPE_CHECKING:
    from moe_retrieval.retrieval.retriever import Retriever
    from moe_retrieval.types import Hit, Route


@dataclass(frozen=True, slots=True)
class RouteReport:
    """Where a text is searched, and why.

    `routes` are searched, best first; `chances` are all domains that the router knows, with their
    probabilities. `threshold`: the probability that a routed domain has at least (None: the domains hold a
    sum). `energy` below `limit`: the text is like none of them (`abstained`), and all are searched; without a
    limit that is never said. `router` is the sha256 of the router (empty: there is none, and all domains are
    searched), `generation` the one that pins it, `nearest` the chunks nearest to the text.
    """

    text: str
    routes: tuple[Route, ...]
    chances: tuple[Route, ...]
    threshold: float | None
    energy: float | None
    limit: float | None
    abstained: bool
    router: str
    generation: int
    nearest: tuple[Hit, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def explain_route(
    retriever: Retriever, text: str, *, mass: float | None = None, nearest: int = 0
) -> RouteReport:
    """Where a query of this text would be searched in the newest generation, with `nearest` chunks of there.

    Raises:
        UsageError: the text is empty, or mass is not in (0, 1].
        NothingFoundError: the store holds no documents.
    """
    if not text.strip():
        raise UsageError("the text is empty", hint='moeret route "a question or some words"')
    snapshot = retriever.snapshot()
    vector = snapshot.vectors([text])[0]
    routes = snapshot.route(text, vector, mass=mass)
    choice = snapshot.router.choose(vector, text, mass=mass) if snapshot.router else None
    hits: tuple[Hit, ...] = ()
    if nearest:
        domains = [route.domain for route in routes]
        hits = retriever.query_many([text], k=nearest, mode=Mode.VECTOR, domains=domains, snapshot=snapshot)[
            0
        ].hits
    return RouteReport(
        text=text,
        routes=routes,
        chances=choice.chances if choice else (),
        threshold=choice.threshold if choice else None,
        energy=choice.energy if choice else None,
        limit=choice.limit if choice else None,
        abstained=choice is not None and choice.abstained,
        router=snapshot.generation.router if snapshot.router else "",
        generation=snapshot.generation.number,
        nearest=hits,
    )
