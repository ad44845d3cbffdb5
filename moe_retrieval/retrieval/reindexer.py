"""Embed again what is stale, into new tables beside the live ones, and publish them all in one generation."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import NothingFoundError, StoreError, UnknownDomainError, UsageError
from moe_retrieval.retrieval.publisher import build_indexes, publish
from moe_retrieval.storage.rows import with_vectors
from moe_retrieval.types import IndexReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.table import Table


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
        plans: Sequence[DomainPlan],
        *,
        progress: Callable[[str, int], None] | None = None,
    ) -> IndexReport:
        """Carry out `plans`. Rows that a killed run already embedded are not embedded again.

        Readers see the old tables until the last one is ready, then all new ones at once. `progress` is
        called with the domain and the chunks just embedded, after every batch.
        """
        started = self.clock()
        with self.store.lease():
            live = self._live()
            entries = dict(live.domains)
            encoded = 0
            for plan in plans:
                entries[plan.domain], done = self._rebuild(plan, live.domains[plan.domain], progress)
                encoded += done
            if plans:
                live = publish(self.store, entries, live=live, encoder=self.encoder, refit=True)
                build_indexes(self.store, live, recall=self.recall)
        domains = {plan.domain: entries[plan.domain].rows for plan in plans}
        return IndexReport(
            documents=sum(entries[plan.domain].documents for plan in plans),
            chunks=sum(domains.values()),
            encoded=encoded,
            seconds=round(self.clock() - started, 3),
            generation=live.number,
            domains=domains,
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
        stored, hashes, _complete = self.store.table(entry.table).documents()
        current = dict(zip(stored.tolist(), hashes.tolist(), strict=True))
        keys, seen, _complete = table.documents()
        outdated = [
            key for key, seal in zip(keys.tolist(), seen.tolist(), strict=True) if current.get(key) != seal
        ]
        if outdated:
            table.delete_documents(np.array(outdated, dtype=np.int64))
        done = table.keys()
        for batch in self.store.view(entry).batches(size=self.window):
            if (missing := batch.filter(_absent(batch, done))).num_rows:
                yield missing

    def _live(self) -> Generation:
        live = self.store.catalog.latest()
        if live is None:
            raise NothingFoundError(f"{self.store.path} holds no documents", hint="moeret index PATH")
        return live

    def _refuse_a_mix(self, left_out: Sequence[DomainPlan], live: Generation) -> None:
        """A candidate expert may wait; a domain that the whole model left behind may not."""
        trunk_changed = live.model.get("trunk") != self.encoder.model_identity().get("trunk")
        if left_out and trunk_changed:
            names = ", ".join(plan.domain for plan in left_out)
            raise UsageError(
                f"another model leaves every domain stale, also {names}",
                hint="moeret reindex without --domain",
            )


def _absent(batch: pa.RecordBatch, done: np.ndarray) -> pa.Array:
    import pyarrow as pa

    return pa.array(~np.isin(batch["key"].to_numpy(), done))
