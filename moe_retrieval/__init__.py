"""moeret: a domain is one expert, one table, one fingerprint.

Names load when first used (PEP 562): importing this package loads no torch, transformers, lancedb or faiss.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe_retrieval.contexts import Citation, Context, ContextFormat, ContextOrder
    from moe_retrieval.corpus.chunking import Chunker
    from moe_retrieval.corpus.readers import read_corpus
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.errors import MoeretError
    from moe_retrieval.filters import Field, parse_filter
    from moe_retrieval.moeret import Moeret
    from moe_retrieval.retrieval.context import ContextOptions, build_context
    from moe_retrieval.retrieval.indexer import Indexer
    from moe_retrieval.retrieval.refine import Refinement
    from moe_retrieval.retrieval.refining.boosts import Match, Recency
    from moe_retrieval.retrieval.reindexer import Reindexer
    from moe_retrieval.retrieval.rerank import CrossEncoderReranker
    from moe_retrieval.retrieval.retriever import Answer, Retriever
    from moe_retrieval.router import Router
    from moe_retrieval.storage.store import Store
    from moe_retrieval.types import (
        Across,
        Chunk,
        Document,
        Fusing,
        Hit,
        IndexReport,
        Mode,
        Precision,
        Route,
        Widen,
        Within,
    )

__version__ = "0.1.0"

_HOMES = {
    "Across": "types",
    "Answer": "retrieval.retriever",
    "Chunk": "types",
    "Chunker": "corpus.chunking",
    "Citation": "contexts",
    "Context": "contexts",
    "ContextFormat": "contexts",
    "ContextOptions": "retrieval.context",
    "ContextOrder": "contexts",
    "CrossEncoderReranker": "retrieval.rerank",
    "Document": "types",
    "Encoder": "encoder",
    "Field": "filters",
    "Fusing": "types",
    "Hit": "types",
    "IndexReport": "types",
    "Indexer": "retrieval.indexer",
    "Match": "retrieval.refining.boosts",
    "Mode": "types",
    "Moeret": "moeret",
    "MoeretError": "errors",
    "Precision": "types",
    "Recency": "retrieval.refining.boosts",
    "Refinement": "retrieval.refine",
    "Reindexer": "retrieval.reindexer",
    "Retriever": "retrieval.retriever",
    "Route": "types",
    "Router": "router",
    "Store": "storage.store",
    "Widen": "types",
    "Within": "types",
    "build_context": "retrieval.context",
    "parse_filter": "filters",
    "read_corpus": "corpus.readers",
}

__all__ = [
    "Across",
    "Answer",
    "Chunk",
    "Chunker",
    "Citation",
    "Context",
    "ContextFormat",
    "ContextOptions",
    "ContextOrder",
    "CrossEncoderReranker",
    "Document",
    "Encoder",
    "Field",
    "Fusing",
    "Hit",
    "IndexReport",
    "Indexer",
    "Match",
    "Mode",
    "Moeret",
    "MoeretError",
    "Precision",
    "Recency",
    "Refinement",
    "Reindexer",
    "Retriever",
    "Route",
    "Router",
    "Store",
    "Widen",
    "Within",
    "__version__",
    "build_context",
    "parse_filter",
    "read_corpus",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'moe_retrieval' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"moe_retrieval.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
