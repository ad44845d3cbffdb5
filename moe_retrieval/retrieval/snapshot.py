"""One generation, opened for reading: its tables, indexes, router and encoder. It never changes."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from moe_retrieval.errors import ModelError, StoreError, UnknownDomainError
from moe_retrieval.retrieval.indexing import Indexing, open_search
from moe_retrieval.retrieval.routing import load_router
from moe_retrieval.types import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.router import Router
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.index import VectorIndex
    from moe_retrieval.storage.readers import Hold
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.table import TableView


class Snapshot:
    """What a query sees from its beginning to its end. Tables and indexes are opened when first searched."""

    def __init__(
        self,
        store: Store,
        generation: Generation,
        *,
        encoder: Encoder,
        notify: Callable[[str], None],
        hold: Hold | None = None,
        indexing: Indexing | None = None,
    ) -> None:
        self.indexing = indexing or Indexing()
        self.store, self.generation, self.encoder, self.notify = store, generation, encoder, notify
        self.hold = hold  # lets go when the last query that uses this snapshot has ended
        self.router = _router(store, generation, notify)
        self.domains = tuple(sorted(name for name, entry in generation.domains.items() if entry.rows))
        self._views: dict[str, TableView] = {}
        self._indexes: dict[str, VectorIndex] = {}
        self._fields: frozenset[str] | None = None
        self._lock = threading.RLock()

    def view(self, domain: str) -> TableView:
        """The domain's table at the version this generation pins."""
        with self._lock:
            if domain not in self._views:
                self._views[domain] = self.store.view(self.generation.domains[domain])
            return self._views[domain]

    def index(self, domain: str) -> VectorIndex:
        """The domain's search structure over exactly that version."""
        with self._lock:
            if domain not in self._indexes:
                self._indexes[domain] = open_search(
                    self.store,
                    self.generation.domains[domain],
                    self.view(domain),
                    indexing=self.indexing,
                    notify=self.notify,
                )
            return self._indexes[domain]

    def succeed(self, before: Snapshot) -> None:
        """Open what the snapshot before has open, before a query asks for it; what is the same is shared."""
        with before._lock:
            views, indexes = dict(before._views), dict(before._indexes)
        for domain in self.domains:
            old = before.generation.domains.get(domain)
            entry = self.generation.domains[domain]
            if old and (old.table, old.version) == (entry.table, entry.version):
                self._share(domain, views.get(domain), indexes.get(domain))
            if domain in indexes:
                with contextlib.suppress(StoreError):  # who searches this domain hears of it
                    self.index(domain)

    def _share(self, domain: str, view: TableView | None, index: VectorIndex | None) -> None:
        """Neither changes once it is open. An index that is not what it should be is opened anew."""
        if view is not None:
            self._views[domain] = view
        if index is not None and not index.info.notice:
            self._indexes[domain] = index

    def space(self, domain: str) -> str:
        """Domains of one space share an expert: one encoding serves them, and their cosines compare."""
        return self.generation.domains[domain].fingerprint

    def fields(self) -> frozenset[str]:
        """Names that a filter may use: those any document of any readable domain has."""
        with self._lock:
            if self._fields is None:
                found: set[str] = set()
                for domain in self.domains:
                    with contextlib.suppress(StoreError):  # a damaged domain must not take the others down
                        found.update(self.view(domain).fields())
                self._fields = frozenset(found)
            return self._fields

    def named(self, domains: Sequence[str]) -> tuple[Route, ...]:
        """Routes to the domains a caller named.

        Raises:
            UnknownDomainError: the store has no such domain.
        """
        for domain in domains:
            if domain not in self.generation.domains:
                raise UnknownDomainError(domain, self.generation.domains)
        return tuple(Route(domain, 1.0) for domain in dict.fromkeys(domains) if domain in self.domains)

    def route(self, vector: np.ndarray, *, mass: float) -> tuple[Route, ...]:
        """The fewest domains that hold `mass` of the probability, and every domain the router was not fitted
        on.

        `vector`: float32 (dim,), the text under `general`.
        """
        if self.router is None:
            return self.named(self.domains)
        routed = tuple(
            route for route in self.router.route(vector, mass=mass) if route.domain in self.domains
        )
        unknown = [domain for domain in self.domains if domain not in self.router.domains]
        return routed + self.named(unknown)

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Query vectors, float32 (n, dim), under the general expert: what the router looks at."""
        return self.encoder.encode_query(texts)


def _router(store: Store, generation: Generation, notify: Callable[[str], None]) -> Router | None:
    """The pinned router; a damaged one is done without until the next index fits it again."""
    try:
        return load_router(store, generation)
    except ModelError as error:
        notify(f"all domains are searched: {error.message}; the next moeret index fits the router again")
        return None
