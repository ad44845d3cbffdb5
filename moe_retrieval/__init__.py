"""moeret: a domain is one expert, one table, one fingerprint.

Names load when first used (PEP 562): importing this package loads no torch, transformers, lancedb or faiss.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe_retrieval.corpus.chunking import Chunker
    from moe_retrieval.corpus.readers import read_corpus
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.errors import MoeretError
    from moe_retrieval.filters import parse_filter
    from moe_retrieval.moeret import Moeret
    from moe_retrieval.retrieval.context import build_context
    from moe_retrieval.retrieval.indexer import Indexer
    from moe_retrieval.retrieval.reindexer import Reindexer
    from moe_retrieval.retrieval.retriever import Answer, Retriever
    from moe_retrieval.router import Router
    from moe_retrieval.storage.store import Store
    from moe_retrieval.types import (
        Chunk,
        Citation,
        Context,
        ContextFormat,
        Document,
        Hit,
        IndexReport,
        Mode,
        Precision,
        Route,
    )

__version__ = "0.1.0"

_HOMES = {
    "Answer": "retrieval.retriever",
    "Chunk": "types",
    "Chunker": "corpus.chunking",
    "Citation": "types",
    "Context": "types",
    "ContextFormat": "types",
    "Document": "types",
    "Encoder": "encoder",
    "Hit": "types",
    "IndexReport": "types",
    "Indexer": "retrieval.indexer",
    "Mode": "types",
    "Moeret": "moeret",
    "MoeretError": "errors",
    "Precision": "types",
    "Reindexer": "retrieval.reindexer",
    "Retriever": "retrieval.retriever",
    "Route": "types",
    "Router": "router",
    "Store": "storage.store",
    "build_context": "retrieval.context",
    "parse_filter": "filters",
    "read_corpus": "corpus.readers",
}

__all__ = [
    "Answer",
    "Chunk",
    "Chunker",
    "Citation",
    "Context",
    "ContextFormat",
    "Document",
    "Encoder",
    "Hit",
    "IndexReport",
    "Indexer",
    "Mode",
    "Moeret",
    "MoeretError",
    "Precision",
    "Reindexer",
    "Retriever",
    "Route",
    "Router",
    "Store",
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
