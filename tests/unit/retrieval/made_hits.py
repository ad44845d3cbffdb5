"""Hits made by hand."""

from __future__ import annotations

from moe_retrieval.hashing import chunk_id, document_key
from moe_retrieval.types import Hit, MetaValue, Why


def made(
    doc_id: str,
    text: str = "text",
    *,
    score: float = 1.0,
    domain: str = "cvd",
    ordinal: int = 0,
    start: int = 0,
    rank: int = 1,
    title: str = "",
    **metadata: MetaValue,
) -> Hit:
    """A hit on one chunk of a document, with the id that a store would give it."""
    return Hit(
        rank=rank,
        score=score,
        domain=domain,
        doc_id=doc_id,
        chunk_id=chunk_id(document_key("made", doc_id), ordinal),
        title=title,
        text=text,
        source="made",
        start=start,
        end=start + len(text),
        metadata=metadata,
        why=Why(vector_rank=rank),
    )
