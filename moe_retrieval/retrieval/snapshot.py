"""One generation, opened for reading: its tables, indexes, router and encoder. It never changes."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from moe_retrieval.calibration import Tuning
from moe_retrieval.errors import ModelError, StoreError, UnknownDomainError
from moe_retrieval.retrieval.calibrating import in_use
from moe_retrieval.retrieval.fusion import ROUTE_POWER, SURE_ROUTE_POWER, chosen_way, fuse
from moe_retrieval.retrieval.indexing import Indexing, open_search
from moe_retrieval.retrieval.routing import load_router
from moe_retrieval.types import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.retrieval.fusion import Ranked, Searched
    from moe_retrieval.router import Router
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.index import VectorIndex
    from moe_retrieval.storage.maintenance.readers import Hold
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.kinds import Kind
    from moe_retrieval.storage.tables.table import TableView
    from moe_retrieval.types import Across, Fusing, Mode


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
        self.calibration = in_use(generation)
        self.tuning = Tuning.from_dict(generation.tuning)
        self._views: dict[str, TableView] = {}
        self._indexes: dict[str, VectorIndex] = {}
        self._fields: Mapping[str, frozenset[Kind]] | None = None
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

    @property
    def route_power(self) -> float:
        """How much the router's probabilities count in hybrid scores."""
        sure = self.router is not None and self.router.queries.sure
        return SURE_ROUTE_POWER if sure else ROUTE_POWER

    def space(self, domain: str) -> str:
        """Domains of one space share an expert: one encoding serves them, and their cosines compare."""
        return self.generation.domains[domain].fingerprint

    def fields(self) -> Mapping[str, frozenset[Kind]]:
        """Names that a filter may use, and the kinds of their values: those of any readable domain."""
        with self._lock:
            if self._fields is None:
                found: dict[str, frozenset[Kind]] = {}
                for domain in self.domains:
                    with contextlib.suppress(StoreError):  # a damaged domain must not take the others down
                        for name, kinds in self.view(domain).fields().items():
                            found[name] = found.get(name, frozenset()) | kinds
                self._fields = found
            return self._fields

    def fused(
        self, searched: Sequence[Searched], *, mode: Mode, k: int, fusing: Fusing
    ) -> tuple[list[Ranked], Across | None]:
        """The best k candidates of these searches, under this generation's calibration and tuning, and how
        vector spaces were joined (see `fusion.chosen_way`).
        """
        way = chosen_way(searched, mode=mode, fusing=fusing, calibration=self.calibration)
        ranked = fuse(
            searched, mode=mode, k=k, fusing=fusing, calibration=self.calibration, tuning=self.tuning
        )
        return ranked, way

    def named(self, domains: Sequence[str]) -> tuple[Route, ...]:
        """Routes to the domains a caller named.

        Raises:
            UnknownDomainError: the store has no such domain.
        """
        for domain in domains:
            if domain not in self.generation.domains:
                raise UnknownDomainError(domain, self.generation.domains)
        return tuple(Route(domain, 1.0) for domain in dict.fromkeys(domains) if domain in self.domains)

    def route(self, text: str, vector: np.ndarray, *, mass: float | None = None) -> tuple[Route, ...]:
        """The domains that the router takes (`mass`: see `router_choice.choose`), and every domain that it
        was not fitted on, as probable as the likeliest; all domains for a text that is like none of them,
        each marked `abstained`.

        A domain that has been emptied since the router was fitted is passed over, for the next best if need
        be. `vector`: float32 (dim,), the text under `general`.
        """
        if self.router is None:
            return self.named(self.domains)
        choice = self.router.choose(vector, text, mass=mass)
        known = [route for route in choice.chances if route.domain in self.domains]
        routed = [route for route in choice.routes if route.domain in self.domains] or known[:1]
        if choice.abstained:
            routed = [Route(one.domain, one.probability, abstained=True) for one in known]
        highest = routed[0].probability if routed else 1.0
        unknown = [Route(domain, highest) for domain in self.domains if domain not in self.router.domains]
        return (*routed, *unknown)

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
