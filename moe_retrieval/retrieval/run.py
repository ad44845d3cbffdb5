"""One run of the indexer: what is known, what waits, what was published."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moe_retrieval.corpus.changes import Change, ChangeLog, KnownDocuments
from moe_retrieval.errors import StaleDomainError
from moe_retrieval.hashing import content_hash, document_key
from moe_retrieval.retrieval.publisher import build_indexes, publish
from moe_retrieval.retrieval.routing import load_router
from moe_retrieval.retrieval.writer import DomainWriter
from moe_retrieval.storage.rows import Row
from moe_retrieval.types import GENERAL, Document, IndexReport, Rejected, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moe_retrieval.corpus.chunking import Chunker
    from moe_retrieval.corpus.readers import Scope
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.retrieval.indexer import IndexOptions
    from moe_retrieval.storage.store import Store


@dataclass(slots=True)
class Tally:
    """Counts of a run, in documents unless they say chunks."""

    documents: int = 0
    encoded: int = 0
    unchanged: int = 0
    removed: int = 0
    vanished: int = 0
    generation: int = 0
    rejections: list[Rejected] = field(default_factory=list)
    skips: list[Skipped] = field(default_factory=list)
    routed: Counter[str] = field(default_factory=Counter)
    touched: set[str] = field(default_factory=set)


class IndexRun:
    """State of one run; used under the store's writer lease."""

    def __init__(
        self,
        store: Store,
        *,
        encoder: Encoder,
        chunker: Chunker,
        options: IndexOptions,
        clock: Callable[[], float],
        progress: Callable[[int, int], None] | None = None,
        dry_run: bool = False,
    ) -> None:
        self.store, self.encoder, self.chunker = store, encoder, chunker
        self.options, self.clock, self.progress, self.dry_run = options, clock, progress, dry_run
        self.started = self.last_publish = clock()
        self.live = store.catalog.latest()
        self.router = load_router(store, self.live)
        self.tally = Tally()
        self.writers: dict[str, DomainWriter] = {}
        for domain in self.live.domains if self.live else ():
            self._open(domain)
        for (
            domain
        ) in store.unpublished_domains():  # tables of a first run that was killed before it published
            self._open(domain)
        self.changes = ChangeLog([_known(writer) for writer in self.writers.values()])

    def take(self, item: Document | Rejected | Skipped, *, domain: str | None) -> None:
        """Queue one document, or note why it is none; writes when a window is full."""
        match item:
            case Rejected():
                self.tally.rejections.append(item)
            case Skipped():
                self.tally.skips.append(item)
            case Document():
                self._document(item, domain=domain or item.domain)
        if not self.dry_run and self.last_publish + self.options.publish_seconds < self.clock():
            self.publish()

    def vanished(self, scope: Scope | None, *, prune: bool) -> None:
        """Count stored documents under `scope` that did not come in this run; delete them with `prune`."""
        if scope is None:
            return
        unread = {rejection.source for rejection in self.tally.rejections}
        for domain, writer in self.writers.items():
            unseen = self.changes.unseen(domain)
            for key, source in writer.table.sources(unseen).items():
                if source not in scope or _below(source, unread):
                    continue
                self.tally.vanished += 1
                if prune:
                    self._remove(key, domain)

    def publish(self) -> None:
        """Store what waits and make it visible; nothing happens where nothing changed."""
        for writer in self.writers.values():
            self._flush(writer)
        if changed := {name: writer for name, writer in self.writers.items() if writer.changed()}:
            self._publish(changed, partial=True)
        self.last_publish = self.clock()

    def finish(self) -> IndexReport:
        """Publish with compacted tables, fresh indexes and a router fitted to what is stored now."""
        if self.dry_run:
            return self._report()
        for writer in self.writers.values():
            self._flush(writer)
        partial = self.live is not None and self.live.partial  # the last run was stopped before it came here
        changed = {name: writer for name, writer in self.writers.items() if writer.changed() or partial}
        if changed:
            for writer in changed.values():
                writer.table.maintain()
            self._publish(changed, partial=False)
        build_indexes(self.store, self.live, recall=self.options.recall)
        return self._report()

    def _publish(self, changed: Mapping[str, DomainWriter], *, partial: bool) -> None:
        entries = dict(self.live.domains) if self.live else {}
        entries |= {name: writer.seal(chunking=self.chunker.identity) for name, writer in changed.items()}
        self.live = publish(
            self.store, entries, live=self.live, encoder=self.encoder, refit=not partial, partial=partial
        )
        for name, writer in changed.items():
            writer.entry = self.live.domains[name]

    def _document(self, document: Document, *, domain: str | None) -> None:
        if not document.text.strip():
            self.tally.rejections.append(Rejected(document.source, f"{document.id!r} has no text"))
            return
        key = document_key(document.source, document.id)
        homes = self.changes.homes(key)
        domain = domain or (homes[0] if homes else self._route(document))
        self.tally.documents += 1
        self.tally.touched.add(domain)
        digest = content_hash(document, chunking=self.chunker.identity)
        match self.changes.classify(key, digest, domain):
            case Change.UNCHANGED:
                self.tally.unchanged += 1
            case Change.DUPLICATE:
                self.tally.documents -= 1
                self.tally.rejections.append(Rejected(document.source, f"duplicate id {document.id!r}"))
            case change:
                self._queue(
                    document,
                    domain,
                    key=key,
                    digest=digest,
                    replaces=change is Change.CHANGED or domain in homes,
                )
                for home in homes:
                    if home != domain:
                        self._remove(key, home)

    def _queue(self, document: Document, domain: str, *, key: int, digest: int, replaces: bool) -> None:
        chunks = self.chunker.chunk(document)
        if self.dry_run:
            self.tally.encoded += len(chunks)
            return
        rows = [
            Row(chunk, parts=len(chunks), doc_hash=digest, metadata=document.metadata) for chunk in chunks
        ]
        writer = self.writers.get(domain) or self._open(domain)
        writer.add(rows, key=key, replaces=replaces)
        if len(writer.waiting) >= self.options.window:
            self._flush(writer)

    def _remove(self, key: int, domain: str) -> None:
        self.tally.removed += 1
        if not self.dry_run:
            self.writers[domain].remove(key)

    def _flush(self, writer: DomainWriter) -> None:
        encoded = writer.flush()
        self.tally.encoded += encoded
        if encoded and self.progress:
            self.progress(self.tally.documents, self.tally.encoded)

    def _open(self, domain: str) -> DomainWriter:
        """The writer of a domain: its live table, one left by a killed first run, or a new one."""
        fingerprint = self.encoder.fingerprint(domain)
        entry = self.live.domains.get(domain) if self.live else None
        if entry and entry.fingerprint != fingerprint:
            raise StaleDomainError(domain, stored=entry.fingerprint, loaded=fingerprint)
        if entry:
            table = self.store.table(entry.table)
        else:
            table = self.store.unpublished(domain, fingerprint=fingerprint) or self.store.create_table(
                domain, dim=self.encoder.dim, fingerprint=fingerprint
            )
        writer = DomainWriter(domain, table=table, encoder=self.encoder, entry=entry)
        self.writers[domain] = writer
        return writer

    def _route(self, document: Document) -> str:
        """The most probable domain of a text without one; `general` while there is nothing to route by."""
        if self.router is None:
            return GENERAL
        head = self.chunker.chunk(document)[0].content
        vector = self.encoder.encode_document([head], domain=GENERAL)[0]
        domain = self.router.route(vector, at_most=1)[0].domain
        self.tally.routed[domain] += 1
        return domain

    def _report(self) -> IndexReport:
        tally = self.tally
        live = self.live.domains if self.live else {}
        touched = {name: live[name].rows for name in sorted(tally.touched) if name in live}
        return IndexReport(
            documents=tally.documents,
            chunks=sum(touched.values()),
            encoded=tally.encoded,
            unchanged=tally.unchanged,
            removed=tally.removed,
            rejected=len(tally.rejections),
            vanished=tally.vanished,
            seconds=round(self.clock() - self.started, 3),
            generation=self.live.number if self.live else 0,
            domains=touched,
            routed=dict(tally.routed),
            rejections=tuple(tally.rejections),
            skipped=tuple(tally.skips),
        )


def _known(writer: DomainWriter) -> KnownDocuments:
    keys, hashes, complete = writer.table.documents()
    return KnownDocuments(writer.domain, keys=keys, hashes=hashes, complete=complete)


def _below(source: str, unread: set[str]) -> bool:
    """Whether a source, or a folder above it, could not be read whole in this run: it may still be there."""
    return any(source == one or source.startswith(f"{one}/") for one in unread)
