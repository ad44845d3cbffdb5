"""Fit the store's router from its own chunks, and name the domain of a text that came without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.errors import ModelError
from moe_retrieval.retrieval.rebuilding.embedded import mark_of
from moe_retrieval.router import Router
from moe_retrieval.router_queries import KnownQueries
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.store import Store

SAMPLE = 24_000
"""Chunks a router knows, over all domains: the nearest of them says most of where a text belongs, and to
compare with all takes milliseconds, flat in corpus size.
"""


ENCODED = 2_000
"""Chunks taken of a domain with an expert of its own: these have to be encoded again, under `general`, unless
the live router knows them. Much fewer than of other domains, and the nearest is rarely of this one.
"""


def fit_router(
    store: Store,
    entries: Mapping[str, DomainEntry],
    encoder: Encoder,
    *,
    live: Generation | None = None,
) -> Router | None:
    """A router over the domains that hold chunks; None when there is none. Vectors are those of `general`.

    Texts that the router of `live` was fitted on are not encoded again, and the questions that it knows are
    known to the new one, unless the general expert is another.
    """
    filled = {domain: entry for domain, entry in sorted(entries.items()) if entry.rows}
    if not filled:
        return None
    each = max(50, SAMPLE // len(filled)) if len(filled) > 1 else 1
    space = encoder.fingerprint(GENERAL)
    before = _usable(store, live, space=space)
    known = _remembered(before)
    samples = [_sample(store, entry, encoder, domain=domain, size=each) for domain, entry in filled.items()]
    labels = [domain for domain, one in zip(filled, samples, strict=True) for _ in one.texts]
    marks = np.array([mark_of(text) for one in samples for text in one.texts], np.int64)
    vectors = np.concatenate([one.vectors(encoder, known) for one in samples])
    router = Router.fit(vectors, labels, groups=np.concatenate([one.documents for one in samples]))
    router = router.remembering(marks, labels, space=space)
    return router.asked(before.queries) if before else router


def taught_router(
    store: Store, live: Generation, encoder: Encoder, *, texts: Sequence[str], domains: Sequence[str]
) -> Router | None:
    """The live router fitted to questions whose domains are known, in place of those it knew; None where
    there is none. The next routers, fitted by `fit_router`, know them too.
    """
    router = load_router(store, live)
    if router is None:
        return None
    return router.asked(KnownQueries.of(texts, encoder.encode_query(texts), domains=domains))


def load_router(store: Store, generation: Generation | None) -> Router | None:
    """The router a generation pins."""
    if generation is None or not generation.router:
        return None
    return Router.load(store.place.fetch(f"routers/{generation.router}.safetensors"))


@dataclass(frozen=True, slots=True)
class _Sample:
    """Chunks of a domain: texts, document keys (n,), and, where the domain is on `general`, vectors."""

    texts: list[str]
    documents: np.ndarray
    stored: np.ndarray | None

    def vectors(self, encoder: Encoder, known: Mapping[int, np.ndarray]) -> np.ndarray:
        """Vectors under `general`, float32 (n, dim), as precise as a router is saved: one that is fitted with
        those that were saved is the same.
        """
        if self.stored is not None:
            return _rounded(self.stored)
        marks = [mark_of(text) for text in self.texts]
        missing = [text for text, mark in zip(self.texts, marks, strict=True) if mark not in known]
        fresh = iter(_rounded(encoder.encode_document(missing, domain=GENERAL)))
        return np.stack([known[mark] if mark in known else next(fresh) for mark in marks])


def _sample(store: Store, entry: DomainEntry, encoder: Encoder, *, domain: str, size: int) -> _Sample:
    """Those chunks whose keys are the smallest. Keys are hashes, so that is a sample; it depends on the
    content alone, and hardly changes where little is added.
    """
    view = store.view(entry)
    own = encoder.expert_of(domain) != GENERAL
    size = min(size, ENCODED if own else size, entry.rows)
    offsets = np.argsort(view.key_vh()[0], kind="stable")[:size]
    rows = view.take(offsets, columns=["content", "doc_key"])
    stored = None if own else view.vectors(offsets)
    return _Sample(rows["content"].to_pylist(), rows["doc_key"].to_numpy(), stored)


def _usable(store: Store, live: Generation | None, *, space: str) -> Router | None:
    """The live router, if its vectors are of this space."""
    try:
        router = load_router(store, live)
    except ModelError:
        return None
    return router if router is not None and router.space == space else None


def _remembered(router: Router | None) -> dict[int, np.ndarray]:
    """By mark, the vectors of the texts that a router was fitted on."""
    return dict(zip(router.marks.tolist(), router.exemplars, strict=True)) if router else {}


def _rounded(vectors: np.ndarray) -> np.ndarray:
    return vectors.astype(np.float16).astype(np.float32)
