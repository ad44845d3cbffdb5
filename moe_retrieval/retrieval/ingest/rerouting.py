"""What new domains did to the routing of what was known before them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.errors import ModelError
from moe_retrieval.retrieval.routing import load_router
from moe_retrieval.types import Rerouted

if TYPE_CHECKING:
    from moe_retrieval.router import Router
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store

ASKED = 1_000
"""Texts that both routers are asked about, at most: the report shall not cost what the fit costs."""


def rerouted(store: Store, before: Generation | None, after: Generation | None) -> Rerouted | None:
    """How the router of `after` sends the texts of that of `before`; None where both know the same domains,
    or one cannot be read.
    """
    try:
        old, new = load_router(store, before), load_router(store, after)
    except ModelError:
        return None
    if old is None or new is None or old.domains == new.domains or old.space != new.space:
        return None
    return compare(old, new)


def compare(old: Router, new: Router) -> Rerouted:
    """Chunks and questions of the old router (of many, every n-th), each judged without itself."""
    texts = np.concatenate([old.exemplars, old.queries.vectors]) if old.queries.domains else old.exemplars
    texts = texts[:: -(-len(texts) // ASKED)]
    pairs = list(zip(_firsts(old, texts), _firsts(new, texts), strict=True))
    moved = Counter(now for was, now in pairs if was != now)
    return Rerouted(len(pairs), sum(moved.values()), dict(sorted(moved.items())))


def _firsts(router: Router, texts: np.ndarray) -> list[str]:
    scores = router.linear * router.logits(texts) + router.near * router.nearest(texts, but_itself=True)
    return [router.domains[place] for place in scores.argmax(axis=1).tolist()]
