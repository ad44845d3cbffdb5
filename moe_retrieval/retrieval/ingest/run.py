"""One run of the indexer: what is known, what waits, what was published."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.corpus.changes import Change, ChangeLog
from moe_retrieval.errors import ModelError, StaleDomainError
from moe_retrieval.hashing import content_hash, document_key, shared_hash
from moe_retrieval.retrieval.indexing import build_indexes, tidy
from moe_retrieval.retrieval.ingest.moves import unfinished_moves, without
from moe_retrieval.retrieval.ingest.placing import Placing
from moe_retrieval.retrieval.ingest.writer import DomainWriter
from moe_retrieval.retrieval.publisher import publish, uncalibrated
from moe_retrieval.retrieval.routing import load_router
from moe_retrieval.storage.tables.rows import Row
from moe_retrieval.types import Document, IndexReport, Rejected, Skipped, slug

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moe_retrieval.corpus.changes import KnownDocuments
    from moe_retrieval.corpus.chunking import Chunker
    from moe_retrieval.corpus.readers import Scope
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.retrieval.indexer import IndexOptions
    from moe_retrieval.router import Router
    from moe_retrieval.storage.store import Store


@dataclass(slots=True)
class Tally:
    """Counts of a run, in documents unless they say chunks."""

    documents: int = 0
    encoded: int = 0
    unchanged: int = 0
    moved: int = 0
    removed: int = 0
    vanished: int = 0
    shared: int = 0
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
        multi_domain: bool = False,
    ) -> None:
        self.store, self.encoder, self.chunker = store, encoder, chunker
        self.options, self.clock, self.progress, self.dry_run = options, clock, progress, dry_run
        self.started = self.last_publish = clock()
        self.live = store.catalog.latest()
        router, self.refit = self._router()
        self.placing = Placing(router, encoder=encoder, chunker=chunker, several=multi_domain)
        self.tally = Tally()
        self.writers: dict[str, DomainWriter] = {}
        for domain in self.live.domains if self.live else ():
            self._open(domain)
        for domain, table in store.leftovers(encoder.fingerprint).items():  # a killed run made them
            self.writers[domain] = DomainWriter(domain, table=table, encoder=encoder)
        known = [writer.known(mend=not dry_run) for writer in self.writers.values()]
        self.changes = ChangeLog(self._settled(known))

    def take(self, item: Document | Rejected | Skipped, *, domain: str | None) -> None:
        """Queue one document, or note why it is none; writes when a window is full."""
        match item:
            case Rejected():
                self.tally.rejections.append(item)
            case Skipped():
                self.tally.skips.append(item)
            case Document():
                self._document(item, domain=slug(item.domain) if item.domain else domain)
        if not self.dry_run and self.last_publish + self.options.publish_seconds < self.clock():
            self.publish()

    def vanished(self, scope: Scope | None, *, prune: bool) -> None:
        """Count stored documents under `scope` that did not come in this run; delete them with `prune`.

        What lies below a file or folder that could not be read whole is not counted: it may still be there.
        """
        if scope is None:
            return
        unread = {rejection.source for rejection in self.tally.rejections}

        def gone(source: str) -> bool:
            return source in scope and not _below(source, unread)

        lost: set[int] = set()
        for domain, writer in self.writers.items():
            keys = writer.table.documents_from(gone, self.changes.unseen(domain)).tolist()
            lost.update(keys)
            if prune:
                writer.remove(keys if not self.dry_run else ())
        self.tally.vanished += len(lost)
        self.tally.removed += len(lost) if prune else 0

    def publish(self) -> None:
        """Store what waits and make it visible; nothing happens where nothing changed."""
        if self.dry_run:
            return
        self._store_all()
        if changed := {name: writer for name, writer in self.writers.items() if writer.changed()}:
            self._publish(changed, partial=True)
        self.last_publish = self.clock()

    def finish(self) -> IndexReport:
        """Publish with compacted tables, fresh indexes and a router fitted to what is stored now."""
        if self.dry_run:
            return self._report()
        self._store_all()
        partial = self.live is not None and self.live.partial  # the last run was stopped before it came here
        due = {name: writer for name, writer in self.writers.items() if writer.changed() or partial}
        for writer in due.values():
            tidy(self.store, writer.table, indexing=self.options.indexing)
        if due or self.refit or uncalibrated(self.store, self.live):
            self._publish(due, partial=False)
        elif self.live:
            build_indexes(self.store, self.live.domains, indexing=self.options.indexing)
        return self._report()

    def _store_all(self) -> None:
        """Rows first, then removals: a document that moves is never in no domain, whenever a kill comes."""
        for writer in self.writers.values():
            self._flush(writer)
        for writer in self.writers.values():
            writer.drop()

    def _publish(self, changed: Mapping[str, DomainWriter], *, partial: bool) -> None:
        entries = dict(self.live.domains) if self.live else {}
        entries |= {name: writer.seal(chunking=self.chunker.identity) for name, writer in changed.items()}
        self.live = publish(
            self.store,
            entries,
            live=self.live,
            encoder=self.encoder,
            refit=not partial,
            partial=partial,
            note="index",
            indexing=None if partial else self.options.indexing,
        )
        for entry in self.live.domains.values():  # what this run writes from here on comes after it
            self.store.note_progress(entry.table, self.live.number)
        for name, writer in changed.items():
            writer.entry = self.live.domains[name]

    def _document(self, document: Document, *, domain: str | None) -> None:
        if problem := _problem(document, domain):
            self.tally.rejections.append(Rejected(document.source, problem))
            return
        key = document_key(document.source, document.id)
        digest = content_hash(document, chunking=self.chunker.identity)
        homes = (domain,) if domain else self._homes(document, key=key, digest=digest)
        digest = shared_hash(digest, len(homes))
        change = self.changes.classify(key, digest, *homes)
        if change is Change.DUPLICATE:
            self.tally.rejections.append(Rejected(document.source, f"duplicate id {document.id!r}"))
            return
        self.tally.documents += 1
        self.tally.shared += len(homes) > 1
        self.tally.touched.update(homes)
        self.tally.unchanged += change is Change.UNCHANGED
        self._put(document, homes, key=key, digest=digest)

    def _homes(self, document: Document, *, key: int, digest: int) -> tuple[str, ...]:
        """The domains of a document that came without one."""
        homes, routed = self.placing.homes(document, key=key, digest=digest, known=self.changes)
        self.tally.routed.update(homes if routed else ())
        return homes

    def _put(self, document: Document, homes: tuple[str, ...], *, key: int, digest: int) -> None:
        """Queue a document for its domains, but for those that hold it so, and take it out of all others."""
        before = self.changes.homes(key)
        for home in homes:
            if self.changes.holds(key, digest, home):
                self.writers[home].settled += 1
            else:
                self._queue(document, home, key=key, digest=digest, replaces=home in before)
        self._leave([home for home in before if home not in homes], key)

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

    def _leave(self, homes: list[str], key: int) -> None:
        """Take a document out of the domains it moved away from."""
        self.tally.moved += bool(homes)
        for home in homes if not self.dry_run else ():
            self.writers[home].remove([key])

    def _flush(self, writer: DomainWriter) -> None:
        encoded = writer.flush()
        self.tally.encoded += encoded
        if encoded and self.progress:
            self.progress(self.tally.documents, self.tally.encoded)

    def _open(self, domain: str) -> DomainWriter:
        """The writer of a domain: over its live table, or over a new one."""
        fingerprint = self.encoder.fingerprint(domain)
        entry = self.live.domains.get(domain) if self.live else None
        if entry is None:
            table = self.store.create_table(domain, dim=self.encoder.dim, fingerprint=fingerprint)
        elif entry.fingerprint == fingerprint:
            table = self.store.table(entry.table, writing=not self.dry_run, resume=True)
        else:
            raise StaleDomainError(domain, stored=entry.fingerprint, loaded=fingerprint)
        self.writers[domain] = DomainWriter(domain, table=table, encoder=self.encoder, entry=entry)
        return self.writers[domain]

    def _settled(self, known: list[KnownDocuments]) -> list[KnownDocuments]:
        """What is known once the moves of a killed run are finished: each document leaves where it was."""
        leaving = unfinished_moves(known, published=self._published)
        for domain, keys in leaving.items() if not self.dry_run else ():
            self.writers[domain].remove(keys)
        return [without(one, leaving.get(one.domain, ())) for one in known] if leaving else known

    def _published(self, domain: str) -> np.ndarray:
        """Keys (int64) of the documents that the live generation has in a domain."""
        entry = self.live.domains.get(domain) if self.live else None
        batches = self.store.view(entry).batches(("doc_key",)) if entry else ()
        return np.concatenate([np.zeros(0, np.int64), *(batch["doc_key"].to_numpy() for batch in batches)])

    def _router(self) -> tuple[Router | None, bool]:
        """The live router, and whether it must be fitted anew because its file is damaged."""
        try:
            return load_router(self.store, self.live), False
        except ModelError:
            return None, True

    def _report(self) -> IndexReport:
        tally = self.tally
        live = self.live.domains if self.live else {}
        touched = {name: live[name].rows if name in live else 0 for name in sorted(tally.touched)}
        return IndexReport(
            documents=tally.documents,
            chunks=sum(touched.values()),
            encoded=tally.encoded,
            unchanged=tally.unchanged,
            moved=tally.moved,
            removed=tally.removed,
            rejected=len(tally.rejections),
            vanished=tally.vanished,
            shared=tally.shared,
            seconds=round(self.clock() - self.started, 3),
            generation=self.live.number if self.live else 0,
            domains=touched,
            routed=dict(tally.routed),
            rejections=tuple(tally.rejections),
            skipped=tuple(tally.skips),
        )


def _problem(document: Document, domain: str | None) -> str:
    """Why a document cannot be indexed; empty if it can."""
    if domain == "":
        return f"{document.domain!r} cannot name a domain"
    if not document.text.strip():
        return f"{document.id!r} has no text"
    try:
        "".join(
            (document.source, document.id, document.title, document.text, str(document.metadata))
        ).encode()
    except UnicodeEncodeError:
        return f"{document.id!r} holds a lone surrogate, which is no character"
    return ""


def _below(source: str, unread: set[str]) -> bool:
    """Whether a source, or a folder above it, is among those that could not be read whole."""
    return any(source == one or source.startswith(f"{one}/") for one in unread)
