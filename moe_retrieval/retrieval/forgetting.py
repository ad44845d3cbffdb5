"""What was learnt from judged queries and ended with the vectors that it was learnt on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_retrieval.calibration import Basis
from moe_retrieval.errors import ModelError
from moe_retrieval.retrieval.routing import load_router
from moe_retrieval.types import Forgotten

if TYPE_CHECKING:
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store


def forgotten(store: Store, before: Generation | None, after: Generation | None) -> Forgotten | None:
    """What `moeret tune` taught the generation `before` and that of `after` does not know; None for nothing.

    Of a router that can no longer be read nothing is counted: what it knew is not known.
    """
    if before is None or after is None:
        return None
    lost = 0
    if before.router != after.router:
        lost = max(0, _questions(store, before) - _questions(store, after))
    still = _judged(after)
    domains = tuple(name for name in _judged(before) if name in after.domains and name not in still)
    return Forgotten(lost, domains) if lost or domains else None


def _questions(store: Store, generation: Generation) -> int:
    try:
        router = load_router(store, generation)
    except ModelError:
        return 0
    return len(router.queries.domains) if router else 0


def _judged(generation: Generation) -> list[str]:
    return [name for name, one in generation.calibration.items() if one.get("basis") == Basis.JUDGED]
