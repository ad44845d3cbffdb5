"""The facade: one store, every verb of the command line as one call."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval import domain_changes, generations
from moe_retrieval.corpus.readers import read_corpus, scope_of
from moe_retrieval.errors import NothingFoundError
from moe_retrieval.opening import (
    chunker_for,
    encoder_choice,
    index_options,
    indexing,
    open_reindexer,
    open_store,
)
from moe_retrieval.reading import Reading
from moe_retrieval.retrieval import candidates, pinned
from moe_retrieval.retrieval.indexer import Indexer
from moe_retrieval.storage.engine import prepare_writing
from moe_retrieval.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import BinaryIO

    from moe_retrieval.generations import Rollback
    from moe_retrieval.renaming import Renaming
    from moe_retrieval.retrieval.reindexer import Reindexer
    from moe_retrieval.storage.maintenance.gc import GcReport
    from moe_retrieval.tuning.report import TuneReport
    from moe_retrieval.types import Document, IndexReport


class Moeret(Reading):
    """A store with its encoder, ready for every verb. Thread-safe for reading (`Reading`); one writer at a
    time per store.
    """

    def index(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        domain: str | None = None,
        domain_field: str | None = None,
        prune: bool = False,
        dry_run: bool = False,
        multi_domain: bool = False,
        stdin: BinaryIO | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> IndexReport:
        """Read `paths` and bring the store to what they hold now; makes the store where there is none.

        A folder's sub-folders are its domains unless `domain` or `domain_field` says otherwise. What did not
        change costs nothing; `prune` deletes stored documents of these paths that are gone; `dry_run` changes
        nothing, and its report counts under `encoded` the chunks that a run would encode. With `multi_domain`
        a document without a domain that the router is in doubt about is stored in each that it may be of.
        """
        if not dry_run:
            prepare_writing()
        names = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        documents = read_corpus(
            names, domain=domain, domain_field=domain_field, stdin=stdin, missing_ok=prune
        )
        scope = scope_of(names)
        if dry_run and not self._exists():
            with tempfile.TemporaryDirectory() as folder:
                scratch = Store.open(Path(folder) / "store", create=True)
                return self._indexer(scratch).index(documents, scope=scope, dry_run=True)
        return self._indexer(self._made()).index(
            documents,
            scope=scope,
            prune=prune,
            dry_run=dry_run,
            multi_domain=multi_domain,
            progress=progress,
        )

    def index_documents(self, documents: Iterable[Document], *, domain: str | None = None) -> IndexReport:
        """As `index`, for documents made by the caller."""
        return self._indexer(self._made()).index(documents, domain=domain)

    def reindexer(self) -> Reindexer:
        """What brings the store to the encoder of the settings, with registered candidates in place."""
        return open_reindexer(self.store, self.settings, notify=self.notify)

    def reindex(
        self,
        *,
        domains: Sequence[str] | None = None,
        force: bool = False,
        progress: Callable[[str, int], None] | None = None,
    ) -> IndexReport:
        """Embed again what is stale (with `force`, all of `domains`), and publish it in one generation."""
        return self.reindexer().run(domains=domains, force=force, progress=progress)

    def tune(self, folder: str | Path, *, dry_run: bool = False) -> TuneReport:
        """Fit fusion, router and calibration to judged queries; see `tuning.run.tune`."""
        from moe_retrieval.tuning.run import tune

        return tune(self.retriever, Path(folder), dry_run=dry_run, mass=self.settings.mass)

    def register_expert(self, domain: str, folder: str | Path) -> None:
        """Make an exported expert the candidate of a domain; makes the store where there is none.

        Queries see it after the next `reindex`; where the domain has no table, its first `index` uses it.

        `folder`: what `export_expert` wrote, named by the sha256 of its weights.
        """
        encoder = self.encoder()
        candidates.check_candidate(domain, Path(folder), encoder=encoder)  # before a store is made for it
        candidates.register_candidate(self._made(), domain, Path(folder), encoder=encoder)

    def rollback(self, generation: int | None = None, *, dry_run: bool = False) -> Rollback:
        """Publish the content of an older generation again; see `generations.roll_back`."""
        return generations.roll_back(
            self.store,
            encoder_choice(self.settings),
            to=generation,
            dry_run=dry_run,
            indexing=indexing(self.settings),
        )

    def gc(self, *, keep: int = 3, dry_run: bool = False) -> GcReport:
        """Remove old generations and what only they needed; see `storage.gc.collect`."""
        from moe_retrieval.storage.maintenance.gc import collect

        return collect(self.store, keep=keep, dry_run=dry_run)

    def describe(self, domain: str, description: str) -> None:
        """Set the description of a domain."""
        domain_changes.describe(self.store, domain, description)

    def rename_domain(self, old: str, new: str, *, dry_run: bool = False) -> Renaming:
        """Call a domain something else; see `renaming.rename_domain`."""
        from moe_retrieval.renaming import rename_domain

        return rename_domain(self.store, encoder_choice(self.settings), old, new=new, dry_run=dry_run)

    def remove_domain(self, domain: str) -> int:
        """Take a domain out of the store; gives the number of its documents. Older generations keep it.

        Of a domain that has only a candidate, that is forgotten.
        """
        return domain_changes.remove(self.store, domain, encoder=self.encoder())

    def _made(self) -> Store:
        if self._store is None:
            self._store = open_store(self.settings, create=True, notify=self.notify)
        return self._store

    def _exists(self) -> bool:
        try:
            return self.store is not None
        except NothingFoundError:
            return False

    def _indexer(self, store: Store) -> Indexer:
        settings, live = self.settings, store.catalog.latest()
        choice = encoder_choice(settings)
        encoder = pinned.writing_encoder(store, live, choice, notify=self.notify, loaded=self._writer)
        candidates.take_in_packs(store, encoder)
        self._writer = encoder
        chunker, options = chunker_for(encoder, settings, live), index_options(settings)
        return Indexer(store, encoder=encoder, chunker=chunker, options=options)
