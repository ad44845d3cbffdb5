"""What is said of routes, as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeret_cli.wording import beginning, place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.retrieval.explaining import RouteReport

COLUMNS = ("domain", "probability", "searched")


def rows(found: RouteReport, *, everything: bool) -> list[tuple[str, str, str]]:
    """Domains, likeliest first: those searched, or with `everything` all."""
    searched = {route.domain for route in found.routes}
    others = [one for one in found.chances if one.domain not in searched] if everything else []
    known = {one.domain for one in found.chances}
    return [
        (one.domain, f"{one.probability:.3f}" if one.domain in known else "-", _mark(one.domain in searched))
        for one in sorted([*found.routes, *others], key=lambda one: (-one.probability, one.domain))
    ]


def reasons(found: RouteReport) -> Iterator[str]:
    """Why these domains, which router said so, and what lies nearest."""
    if not found.router:
        yield from warnings(found)
    elif found.threshold is None:
        yield "searched: the fewest domains that hold the wanted probability (few judged questions are known)"
    else:
        yield f"searched: every domain with a probability of at least {found.threshold:.3f}, and the first"
    if found.limit is not None and found.energy is not None:
        than = "below" if found.abstained else "not below"
        yield f"energy {found.energy:.2f}, {than} {found.limit:.2f}: {_known(found)}"
    if found.router:
        yield f"router {found.router[:12]} of generation {found.generation}"
    for hit in found.nearest:
        yield f"nearest: {hit.domain}, cosine {hit.why.vector_score or 0:.3f}: {place(hit)}"
        yield f"    {beginning(hit.text)}"


def warnings(found: RouteReport) -> Iterator[str]:
    """What is out of the ordinary."""
    if not found.router:
        yield f"there is no router: all domains of generation {found.generation} are searched"
    elif found.abstained:
        yield "the text is like none of the domains: all are searched"


def _known(found: RouteReport) -> str:
    return "like none of the domains, so all are searched" if found.abstained else "of a kind that is known"


def _mark(searched: bool) -> str:
    return "yes" if searched else "no"
