"""Ranked places become hits: texts and metadata are read from the tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.types import Hit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_retrieval.retrieval.fusion import Ranked
    from moe_retrieval.retrieval.snapshot import Snapshot


def fetch_hits(snapshot: Snapshot, ranked: Sequence[Ranked]) -> tuple[Hit, ...]:
    """The ranked chunks with their texts and metadata: one read per domain."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for domain in {one.domain for one in ranked}:
        keys = np.array([one.key for one in ranked if one.domain == domain], dtype=np.int64)
        offsets = snapshot.index(domain).offsets(keys)
        table = snapshot.view(domain).fetch(keys, offsets=offsets)
        rows |= {(domain, int(key)): row for key, row in zip(keys, table.to_pylist(), strict=True)}
    return tuple(_hit(one, rows[one.domain, one.key], rank=rank) for rank, one in enumerate(ranked, start=1))


def _hit(ranked: Ranked, row: dict[str, Any], *, rank: int) -> Hit:
    return Hit(
        rank=rank,
        score=ranked.score,
        domain=ranked.domain,
        doc_id=row["doc_id"],
        chunk_id=row["id"],
        title=row["title"],
        text=row["content"][row["lead"] :],
        source=row["source"],
        start=row["start"],
        end=row["end"],
        section=row["section"],
        page=row["page"],
        metadata=json.loads(row["meta"]),
        why=ranked.why,
    )
