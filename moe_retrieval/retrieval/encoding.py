"""Query vectors: every text once in every space that it is routed to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from moe_retrieval.retrieval.snapshot import Snapshot
    from moe_retrieval.types import Route

    Vectors = dict[tuple[str, int], np.ndarray]
    """Query vectors, float32 (dim,), by space and by place of the text among the texts asked."""


def encode_queries(
    snapshot: Snapshot,
    texts: Sequence[str],
    routes: Sequence[tuple[Route, ...]],
    *,
    general: np.ndarray | None,
) -> Vectors:
    """Vector (dim,) of every text in every space it is routed to; `general`, (n, dim), is used where it
    serves.
    """
    members, wanted = _wanted(snapshot, routes)
    vectors: Vectors = {}
    groups: dict[tuple[int, ...], list[str]] = {}  # texts -> spaces that want exactly these: one batch
    for space, domain in members.items():
        places = tuple(sorted(wanted[space]))
        if general is not None and snapshot.encoder.expert_of(domain) == GENERAL:
            vectors |= {(space, at): general[at] for at in places}
        else:
            groups.setdefault(places, []).append(space)
    for places, spaces in groups.items():
        found = snapshot.encoder.encode_query_across(
            [texts[at] for at in places], domains=[members[space] for space in spaces]
        )
        for space, encoded in zip(spaces, found, strict=True):
            vectors |= {(space, at): vector for at, vector in zip(places, encoded, strict=True)}
    return vectors


def _wanted(
    snapshot: Snapshot, routes: Sequence[tuple[Route, ...]]
) -> tuple[dict[str, str], dict[str, set[int]]]:
    """Of each space, one of its domains and the places of the texts that are routed there."""
    members: dict[str, str] = {}
    wanted: dict[str, set[int]] = {}
    for at, part in enumerate(routes):
        for route in part:
            space = snapshot.space(route.domain)
            members.setdefault(space, route.domain)
            wanted.setdefault(space, set()).add(at)
    return members, wanted
