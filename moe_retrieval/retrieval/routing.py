"""Fit the store's router from its own chunks, and name the domain of a text that came without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.router import Router
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.store import Store

SAMPLE = 8_000
"""Chunks a router is fitted on, over all domains: enough for 384 features, seconds to fit, flat in corpus
size.
"""


ENCODED = 500
"""Chunks taken of a domain with an expert of its own: these have to be encoded again, under `general`."""


def fit_router(store: Store, entries: Mapping[str, DomainEntry], encoder: Encoder) -> Router | None:
    """A router over the domains that hold chunks; None when there is none. Vectors are those of `general`."""
    filled = {domain: entry for domain, entry in sorted(entries.items()) if entry.rows}
    if not filled:
        return None
    each = max(50, SAMPLE // len(filled))
    vectors, labels, groups = [], [], []
    for domain, entry in filled.items():
        sample = _sample(store, entry, encoder, domain=domain, size=each)
        vectors.append(sample[0])
        groups.append(sample[1])
        labels += [domain] * len(sample[1])
    return Router.fit(np.concatenate(vectors), labels, groups=np.concatenate(groups))


def load_router(store: Store, generation: Generation | None) -> Router | None:
    """The router a generation pins."""
    if generation is None or not generation.router:
        return None
    return Router.load(store.place.fetch(f"routers/{generation.router}.safetensors"))


def _sample(
    store: Store, entry: DomainEntry, encoder: Encoder, *, domain: str, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """`general` vectors (n, dim) and document keys (n,) of evenly spread chunks."""
    view = store.view(entry)
    if (own := encoder.expert_of(domain) != GENERAL) and size > ENCODED:
        size = ENCODED
    order = np.argsort(view.key_vh()[0])  # by key, not by place: the same content gives the same router
    offsets = order[np.linspace(0, entry.rows - 1, min(size, entry.rows)).astype(np.int64)]
    keys = view.take(offsets, columns=["doc_key"])["doc_key"].to_numpy()
    if not own:
        return view.vectors(offsets), keys
    texts = view.take(offsets, columns=["content"])["content"].to_pylist()
    return encoder.encode_document(texts, domain=GENERAL), keys
