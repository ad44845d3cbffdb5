"""How a candidate came to be found: its route, and its rank and score in each search."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from moe_retrieval.types import Why

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moe_retrieval.retrieval.fusion import Place, Searched
    from moe_retrieval.storage.found import Found


def reasons_of(searched: Sequence[Searched], elsewhere: Mapping[int, tuple[str, ...]]) -> dict[Place, Why]:
    """Route, rank and score of every candidate in the searches of its own domain."""
    reasons: dict[Place, Why] = {}
    for one in searched:
        vector, text = _ranks(one.vector), _ranks(one.text)
        for key in vector.keys() | text.keys():
            vector_rank, vector_score = vector.get(key, (None, None))
            text_rank, text_score = text.get(key, (None, None))
            why = Why(one.probability, vector_rank, vector_score, text_rank, text_score)
            others = tuple(name for name in elsewhere.get(key, ()) if name != one.domain)
            reasons[one.domain, key] = replace(why, copies=others) if others else why
    return reasons


def _ranks(found: Found | None) -> dict[int, tuple[int, float]]:
    if found is None:
        return {}
    pairs = zip(found.keys, found.scores, strict=True)
    return {int(key): (rank, float(score)) for rank, (key, score) in enumerate(pairs, start=1)}
