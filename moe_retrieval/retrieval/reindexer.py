"""Embed again what is stale, into new tables beside the live ones, and publish them all in one generation."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import NothingFoundError, StoreError, UnknownDomainError, UsageError
from moe_retrieval.retrieval.publisher import Indexing, publish
from moe_retrieval.storage.lookup import distinct, places
from moe_retrieval.storage.rows import with_vectors
from moe_retrieval.types import IndexReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.table import Table, TableView


PLACES = ("name", "path")
"""Of a model's identity, what says where it lies, not what it is."""


@dataclass(frozen=True, slots=True)
class DomainPlan:
    """What reindexing one domain means: how many rows, from which fingerprint to which."""

    domain: str
    rows: int
    stored: str
    target: str

    @property
    def stale(self) -> bool:
        return self.stored != self.target

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"stale": self.stale}


class Reindexer:
    """Brings a store's tables to `encoder`: the pinned one with registered candidates in place, or another
    model.
    """

    def __init__(
        self,
        store: Store,
        *,
        encoder: Encoder,
        window: int = 512,
        recall: float = 0.98,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.encoder = store, encoder
        self.window, self.recall, self.clock = window, recall, clock

    def plan(self, *, domains: Sequence[str] | None = None, force: bool = False) -> tuple[DomainPlan, ...]:
        """The domains to embed again: those that are stale, or all (of `domains`) with `force`.

        Raises:
            UnknownDomainError: a named domain is not in the store.
            UsageError: a stale domain was left out although it cannot be read with this encoder any more.
        """
        live = self._live()
        for domain in domains or ():
            if domain not in live.domains:
                raise UnknownDomainError(domain, live.domains)
        plans = [
            DomainPlan(
                domain, rows=entry.rows, stored=entry.fingerprint, target=self.encoder.fingerprint(domain)
            )
            for domain, entry in sorted(live.domains.items())
        ]
        named = [plan for plan in plans if not domains or plan.domain in domains]
        self._refuse_a_mix([plan for plan in plans if plan.stale and plan not in named], live)
        return tuple(plan for plan in named if plan.stale or force)

    def run(
        self,
        *,
        domains: Sequence[str] | None = None,
        force: bool = False,
        progress: Callable[[str, int], None] | None = None,
    ) -> IndexReport:
        """Carry out the plan, made anew under the writer lease. Rows that a killed run already embedded are
        not embedded again.

        Readers see the old tables until the last one is ready, then all new ones at once. `progress` is
        called with the domain and the chunks just embedded, after every batch.
        """
        started = self.clock()
        with self.store.lease():
            live = self._live()
            rebuilt: dict[str, DomainEntry] = {}
            encoded = 0
            for plan in self.plan(domains=domains, force=force):
                rebuilt[plan.domain], done = self._rebuild(plan, live.domains[plan.domain], progress)
                encoded += done
            if rebuilt:
                entries = {**live.domains, **rebuilt}
                live = publish(
                    self.store,
                    entries,
                    live=live,
                    encoder=self.encoder,
                    refit=True,
                    partial=live.partial,
                    note=f"reindex {', '.join(rebuilt)}",
                    indexing=Indexing(self.recall),
                )
        return IndexReport(
            documents=sum(entry.documents for entry in rebuilt.values()),
            chunks=sum(entry.rows for entry in rebuilt.values()),
            encoded=encoded,
            seconds=round(self.clock() - started, 3),
            generation=live.number,
            domains={domain: entry.rows for domain, entry in rebuilt.items()},
        )

    def _rebuild(
        self, plan: DomainPlan, entry: DomainEntry, progress: Callable[[str, int], None] | None
    ) -> tuple[DomainEntry, int]:
        """The new table of one domain, checked against the old one, and the number of chunks encoded."""
        table = self.store.unpublished(plan.domain, fingerprint=plan.target) or self.store.create_table(
            plan.domain, dim=self.encoder.dim, fingerprint=plan.target
        )
        encoded = 0
        for batch in self._missing(entry, table):
            vectors = self.encoder.encode_document(batch["content"].to_pylist(), domain=plan.domain)
            table.write(with_vectors(batch, vectors))
            encoded += batch.num_rows
            if progress:
                progress(plan.domain, batch.num_rows)
        table.maintain()
        if table.rows != entry.rows:
            raise StoreError(
                f"domain {plan.domain!r} has {entry.rows} chunks, but {table.rows} came out of reindexing",
                hint="the live table is untouched; run moeret doctor",
            )
        fresh = table.entry(
            expert=self.encoder.expert_of(plan.domain),
            description=entry.description,
            precision=str(self.encoder.precision),
            chunking=entry.chunking,
        )
        return fresh, encoded

    def _missing(self, entry: DomainEntry, table: Table) -> Iterator[pa.RecordBatch]:
        """Batches of live rows that the new table lacks; what it holds of older contents goes first."""
        view = self.store.view(entry)
        if len(outdated := _outdated(view, table)):
            table.delete_documents(outdated)
        done = distinct(table.keys())
        for batch in view.batches(size=self.window):
            if (missing := batch.filter(_absent(batch, done))).num_rows:
                yield missing

    def _live(self) -> Generation:
        live = self.store.catalog.latest()
        if live is None:
            raise NothingFoundError(f"{self.store.name} holds no documents", hint="moeret index PATH")
        return live

    def _refuse_a_mix(self, left_out: Sequence[DomainPlan], live: Generation) -> None:
        """A candidate expert may wait; a domain that the model or its settings left behind may not."""
        here = self.encoder.model_identity()
        changed = any(live.model.get(name) != value for name, value in here.items() if name not in PLACES)
        if left_out and changed:
            names = ", ".join(plan.domain for plan in left_out)
            raise UsageError(
                f"the model or its settings changed, which leaves every domain stale, also {names}",
                hint="moeret reindex without --domain",
            )


def _outdated(view: TableView, table: Table) -> np.ndarray:
    """Keys (int64) of documents in `table` that `view` holds with another content, or not at all."""
    live: dict[int, int] = {}
    for batch in view.batches(("doc_key", "doc_hash")):
        live.update(zip(batch["doc_key"].to_pylist(), batch["doc_hash"].to_pylist(), strict=True))
    stored = table.documents()
    same = [
        live.get(key) == seal for key, seal in zip(stored.keys.tolist(), stored.hashes.tolist(), strict=True)
    ]
    return np.asarray(stored.keys[~np.array(same, dtype=bool)], np.int64)


def _absent(batch: pa.RecordBatch, done: np.ndarray) -> pa.Array:
    """Which rows of a batch have a key that is not in `done`, ascending int64."""
    import pyarrow as pa

    return pa.array(places(batch["key"].to_numpy(), among=done) < 0)
