"""Embed again what is stale, into new tables beside the live ones, and publish them all in one generation."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from moe_retrieval.errors import (
    ModelError,
    NothingFoundError,
    StoreBusyError,
    StoreReadOnlyError,
    UnknownDomainError,
    UsageError,
)
from moe_retrieval.retrieval.candidates import take_in_packs
from moe_retrieval.retrieval.forgetting import forgotten
from moe_retrieval.retrieval.indexing import Indexing, build_indexes
from moe_retrieval.retrieval.publisher import publish
from moe_retrieval.retrieval.rebuilding import estimate
from moe_retrieval.retrieval.rebuilding.embedded import embedded_before
from moe_retrieval.retrieval.rebuilding.plan import Change, DomainPlan, Part, changes_of, same_model
from moe_retrieval.retrieval.rebuilding.rebuild import Rebuild, Rebuilt
from moe_retrieval.retrieval.rebuilding.rechunk import ChunkSizes, Rereading, chunkings_of, new_chunker
from moe_retrieval.retrieval.routing import load_router
from moe_retrieval.storage.index import index_info
from moe_retrieval.types import IndexReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.retrieval.rebuilding.embedded import Embedded
    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table


class Reindexer:
    """Brings a store's tables to `encoder`: the pinned one with registered candidates in place, or another
    model. With `sizes`, documents are cut anew, too.
    """

    def __init__(
        self,
        store: Store,
        *,
        encoder: Encoder,
        window: int = 512,
        indexing: Indexing | None = None,
        sizes: ChunkSizes | None = None,
        notify: Callable[[str], None] = lambda _message: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.encoder = store, encoder
        self.window, self.clock, self.notify = window, clock, notify
        self.indexing, self.sizes = indexing or Indexing(), sizes or ChunkSizes()

    def plan(self, *, domains: Sequence[str] | None = None, force: bool = False) -> tuple[DomainPlan, ...]:
        """The domains to write anew: those that are stale or to be cut anew, or all (of `domains`) with
        `force`.

        Raises:
            UnknownDomainError: a named domain is not in the store.
            UsageError: a stale domain was left out although it cannot be read with this encoder any more.
        """
        live = self._live()
        for domain in domains or ():
            if domain not in live.domains:
                raise UnknownDomainError(domain, live.domains)
        plans = [self._planned(name, entry, live) for name, entry in sorted(live.domains.items())]
        named = [plan for plan in plans if not domains or plan.domain in domains]
        self._refuse_a_mix([plan for plan in plans if plan.stale and plan not in named], live)
        return tuple(plan for plan in named if plan.due or force)

    def estimate(self, plans: Sequence[DomainPlan], *, force: bool = False) -> tuple[DomainPlan, ...]:
        """The plans with their rows to encode and to reuse, seconds and bytes.

        Where another writer is at work, what a killed run left is not counted.
        """
        live = self._live()
        return tuple(self._estimated(plan, live.domains[plan.domain], force=force) for plan in plans)

    def run(
        self,
        *,
        domains: Sequence[str] | None = None,
        force: bool = False,
        progress: Callable[[str, int], None] | None = None,
    ) -> IndexReport:
        """Carry out the plan, made anew under the writer lease. Rows that a killed run already embedded are
        not embedded again.

        Readers see the old tables until the last one is ready and checked, then all new ones at once.
        `progress` is called with the domain and the chunks just written, after every batch, and first with
        those that a killed run wrote.

        Raises:
            StoreError: a new table is not what it was to be; the live ones are untouched.
        """
        started = self.clock()
        take_in_packs(self.store, self.encoder)
        with self.store.lease():
            live = before = self._live()
            plans = self.plan(domains=domains, force=force)
            done = {
                plan.domain: self._rebuilt(plan, live.domains[plan.domain], force=force, progress=progress)
                for plan in plans
            }
            entries = {name: one.entry for name, one in done.items() if one.entry is not None}
            if entries:
                live = self._published(live, entries, plans)
        report = self._report(live, done, entries, seconds=self.clock() - started)
        return replace(report, forgotten=forgotten(self.store, before, live))

    # --- plans --------------------------------------------------------------------------------------------

    def _planned(self, domain: str, entry: DomainEntry, live: Generation) -> DomainPlan:
        changes = changes_of(domain, entry, live=live, store=self.store, encoder=self.encoder)
        chunker = new_chunker(entry.chunking, self.sizes, encoder=self.encoder)
        if chunker is not None:
            changes += (Change(Part.CHUNKING, entry.chunking, chunker.identity),)
        return DomainPlan(
            domain,
            rows=entry.rows,
            stored=entry.fingerprint,
            target=self.encoder.fingerprint(domain),
            changes=changes,
            rechunk=chunker.identity if chunker else "",
            encode=entry.rows,
        )

    def _estimated(self, plan: DomainPlan, entry: DomainEntry, *, force: bool) -> DomainPlan:
        embedded = self._embedded(plan, entry, force=force)
        if (reading := self._reading(plan, entry)) is not None:
            plan = estimate.recut(plan, reading, embedded=embedded)
        else:
            unfinished = self._unfinished(plan)
            plan = estimate.counted(plan, self.store.view(entry), unfinished=unfinished, embedded=embedded)
        return estimate.measured(plan, entry, store=self.store, encoder=self.encoder, clock=self.clock)

    def _unfinished(self, plan: DomainPlan) -> Table | None:
        """What a killed run left; looking for it is a writer's work, so the lease is taken for a moment."""
        with contextlib.suppress(StoreBusyError, StoreReadOnlyError), self.store.lease(0):
            return self.store.unpublished(plan.domain, fingerprint=plan.target)
        return None

    def _refuse_a_mix(self, left_out: Sequence[DomainPlan], live: Generation) -> None:
        """A candidate expert may wait; a domain that the model or its settings left behind may not."""
        if left_out and not same_model(live, self.encoder):
            names = ", ".join(plan.domain for plan in left_out)
            raise UsageError(
                f"the model or its settings changed, which leaves every domain stale, also {names}",
                hint="moeret reindex without --domain",
            )

    # --- carrying them out --------------------------------------------------------------------------------

    def _rebuilt(
        self,
        plan: DomainPlan,
        entry: DomainEntry,
        *,
        force: bool,
        progress: Callable[[str, int], None] | None,
    ) -> Rebuilt:
        rebuild = Rebuild(
            self.store,
            plan,
            entry,
            self.encoder,
            self.window,
            indexing=self.indexing,
            embedded=self._embedded(plan, entry, force=force),
            reading=self._reading(plan, entry),
            progress=progress,
        )
        return rebuild.run(needed=plan.stale or force)

    def _embedded(self, plan: DomainPlan, entry: DomainEntry, *, force: bool) -> Embedded | None:
        """Vectors of the same texts under the wanted fingerprint; `force` computes them all the same."""
        if force:
            return None
        precision = str(self.encoder.precision)
        return embedded_before(
            self.store, plan.domain, fingerprint=plan.target, precision=precision, live=entry
        )

    def _reading(self, plan: DomainPlan, entry: DomainEntry) -> Rereading | None:
        chunker = new_chunker(entry.chunking, self.sizes, encoder=self.encoder) if plan.rechunk else None
        if chunker is None:
            return None
        known = chunkings_of(self.store, plan.domain, entry)
        return Rereading(self.store.view(entry), chunker=chunker, known=known)

    def _published(
        self, live: Generation, entries: Mapping[str, DomainEntry], plans: Sequence[DomainPlan]
    ) -> Generation:
        merged = {**live.domains, **entries}
        build_indexes(self.store, merged, indexing=self.indexing)
        self._tell_low_recall(entries)
        return publish(
            self.store,
            merged,
            live=live,
            encoder=self.encoder,
            refit=self._router_is_due(live, plans),
            partial=live.partial,
            note=f"reindex {', '.join(entries)}",
        )

    def _router_is_due(self, live: Generation, plans: Sequence[DomainPlan]) -> bool:
        """Whether the router must be fitted anew: it was fitted to the same texts' vectors under `general`,
        which another expert does not change.
        """
        if live.partial or not same_model(live, self.encoder):
            return True
        experts = {plan.domain: self.encoder.expert_of(plan.domain) for plan in plans if plan.stale}
        if any(live.domains[domain].expert == expert for domain, expert in experts.items()):
            return True
        try:
            return any(plan.rechunk for plan in plans) or load_router(self.store, live) is None
        except ModelError:
            return True

    def _tell_low_recall(self, entries: Mapping[str, DomainEntry]) -> None:
        for domain, entry in entries.items():
            info = index_info(self.store.indexes_dir, entry)
            reached = info.recall_at_10 if info else None
            if reached is not None and reached < self.indexing.recall:
                self.notify(
                    f"the new index of {domain} has a recall@10 of {reached:.3f}, below "
                    f"{self.indexing.recall} (setting `recall`)"
                )

    def _report(
        self,
        live: Generation,
        done: Mapping[str, Rebuilt],
        entries: Mapping[str, DomainEntry],
        *,
        seconds: float,
    ) -> IndexReport:
        rejections = tuple(one for rebuilt in done.values() for one in rebuilt.rejections)
        return IndexReport(
            documents=sum(entry.documents for entry in entries.values()),
            chunks=sum(entry.rows for entry in entries.values()),
            encoded=sum(rebuilt.encoded for rebuilt in done.values()),
            unchanged=sum(rebuilt.kept for rebuilt in done.values()),
            rejected=len(rejections),
            seconds=round(seconds, 3),
            generation=live.number,
            domains={domain: entry.rows for domain, entry in entries.items()},
            rejections=rejections,
        )

    def _live(self) -> Generation:
        live = self.store.catalog.latest()
        if live is None:
            raise NothingFoundError(f"{self.store.name} holds no documents", hint="moeret index PATH")
        return live
