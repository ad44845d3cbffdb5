"""Documents in, a published generation out: chunk, compare, route, encode, write, index."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from moe_retrieval.corpus.chunking import Chunker
from moe_retrieval.errors import UsageError
from moe_retrieval.retrieval.forgetting import forgotten
from moe_retrieval.retrieval.indexing import Indexing
from moe_retrieval.retrieval.ingest.rerouting import rerouted
from moe_retrieval.retrieval.ingest.run import IndexRun
from moe_retrieval.types import Document, IndexReport, slug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from moe_retrieval.corpus.readers import Scope
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store
    from moe_retrieval.types import Rejected, Rerouted, Skipped


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How a run goes about its work.

    `window`: chunks per encoded and written batch (what a kill can cost). `publish_seconds`: work between two
    generations.
    """

    window: int = 512
    publish_seconds: float = 30.0
    indexing: Indexing = field(default_factory=Indexing)


class Indexer:
    """Writes documents into a store under one encoder."""

    def __init__(
        self,
        store: Store,
        *,
        encoder: Encoder,
        chunker: Chunker | None = None,
        options: IndexOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.encoder = encoder
        self.chunker = chunker or Chunker(encoder.count_tokens, max_tokens=encoder.token_limit)
        self.options = options or IndexOptions()
        self.clock = clock

    def index(
        self,
        documents: Iterable[Document | Rejected | Skipped],
        *,
        domain: str | None = None,
        scope: Scope | None = None,
        prune: bool = False,
        dry_run: bool = False,
        multi_domain: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> IndexReport:
        """Bring the store to what `documents` say, and publish it; returns what was done.

        A document whose content is already there costs nothing. One without a domain goes where `domain`
        says, else stays in the domain that holds it, else goes where the router sends it: with
        `multi_domain`, to each domain that it may be of, where the router is in doubt. With `scope`, stored
        documents under it that did not come are counted as vanished, and deleted with `prune`. With `dry_run`
        nothing is encoded or written; the report counts what would be. `progress` is called with documents
        read and chunks encoded after every batch.

        Whatever ends a run early, an error, Ctrl-C or a kill, ends it at once: what it published stays, and
        the next run goes on from what it wrote.

        Raises:
            StaleDomainError: a domain was written with another encoder; reindex first.
            StoreBusyError: another process is writing.
        """
        if domain is not None and not slug(domain):
            raise UsageError(
                f"{domain!r} cannot name a domain", hint="use letters and digits, like cvd or skin-cancer"
            )
        with nullcontext() if dry_run else self.store.lease():
            run = IndexRun(
                self.store,
                encoder=self.encoder,
                chunker=self.chunker,
                options=self.options,
                clock=self.clock,
                progress=progress,
                dry_run=dry_run,
                multi_domain=multi_domain,
            )
            before = run.live
            for item in documents:
                run.take(item, domain=slug(domain) if domain else None)
            run.vanished(scope, prune=prune)
            report = run.finish()
        return replace(
            report,
            rerouted=self._rerouted(before, run.live),
            forgotten=forgotten(self.store, before, run.live),
        )

    def _rerouted(self, before: Generation | None, after: Generation | None) -> Rerouted | None:
        """What new domains did to old routing."""
        if before is None or after is None or before.domains.keys() == after.domains.keys():
            return None
        return rerouted(self.store, before, after)
