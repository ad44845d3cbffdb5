"""One document under several domains: its copies among the results become one, the best.

A document that the router was in doubt about lies in several domains, each with its own expert. Its chunks
have the same keys and ids there, as long as the domains were cut by the same chunker.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from moe_retrieval.types import Hit

    Place = tuple[str, int]
    """A chunk across tables: its domain and its key there."""

SAME = 0.5
"""Share of the shorter of two spans that both must hold to be the same passage, cut differently."""


def first_of_each(places: Iterable[Place]) -> list[Place]:
    """The first place of every key, in their order: with the best first, a chunk's best copy stays."""
    kept: dict[int, Place] = {}
    for place in places:
        kept.setdefault(place[1], place)
    return list(kept.values())


def copies(places: Iterable[Place]) -> dict[int, tuple[str, ...]]:
    """The domains that hold a key, by key, in the order they come in; only keys that several hold."""
    homes: dict[int, list[str]] = defaultdict(list)
    for domain, key in places:
        homes[key].append(domain)
    return {key: tuple(domains) for key, domains in homes.items() if len(domains) > 1}


def collapse(hits: Sequence[Hit]) -> list[Hit]:
    """Hits, best first, less those whose passage a better hit of another domain holds; that one's
    `why.copies` names their domains. Ranks stay as they were.
    """
    kept: list[Hit] = []
    by_document: dict[tuple[str, str], list[int]] = defaultdict(list)
    for hit in hits:
        places = by_document[hit.source, hit.doc_id]
        better = next((at for at in places if is_copy(kept[at], hit)), None)
        if better is None:
            places.append(len(kept))
            kept.append(hit)
        else:
            kept[better] = _with_copy(kept[better], hit.domain)
    return kept


def is_copy(one: Hit, other: Hit) -> bool:
    """Whether two hits of one document are one passage, stored under two domains."""
    if one.domain == other.domain:
        return False
    shared = min(one.end, other.end) - max(one.start, other.start)
    return shared > 0 and shared >= SAME * min(one.end - one.start, other.end - other.start)


def _with_copy(hit: Hit, domain: str) -> Hit:
    known = dict.fromkeys((*hit.why.copies, domain))
    return replace(hit, why=replace(hit.why, copies=tuple(known)))
