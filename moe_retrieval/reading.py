"""What a store can be asked: queries, context, status. Nothing here writes."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from moe_retrieval import generations
from moe_retrieval.errors import NothingFoundError
from moe_retrieval.opening import context_options, encoder_choice, indexing, open_store
from moe_retrieval.retrieval import pinned
from moe_retrieval.retrieval.citations.token_counts import token_count
from moe_retrieval.retrieval.context import Assembly, build_context
from moe_retrieval.retrieval.refine import Refinement, refined
from moe_retrieval.retrieval.retriever import Answer, Retriever
from moe_retrieval.settings import Settings, load_settings
from moe_retrieval.storage.engine import prepare_searching
from moe_retrieval.storage.places.place import is_url
from moe_retrieval.types import Fusing, Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_retrieval.contexts import Context, ContextFormat
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.filters import Filter
    from moe_retrieval.generations import Past
    from moe_retrieval.retrieval.citations.citing import Verdict
    from moe_retrieval.retrieval.context import ContextOptions
    from moe_retrieval.retrieval.explaining import RouteReport
    from moe_retrieval.retrieval.snapshot import Snapshot
    from moe_retrieval.status import Status
    from moe_retrieval.storage.store import Store


class Reading:
    """A store with its encoder, ready to be asked. Thread-safe."""

    def __init__(self, settings: Settings, *, notify: Callable[[str], None] = lambda _message: None) -> None:
        self.settings, self.notify = settings, notify
        self._opening = threading.RLock()  # else two first queries would load two encoders
        self._store: Store | None = None
        self._retriever: Retriever | None = None
        self._writer: Encoder | None = None  # the one that wrote last: queries after it need load no other

    @classmethod
    def open(
        cls,
        path: str | Path | None = None,
        *,
        settings: Settings | None = None,
        notify: Callable[[str], None] = lambda _message: None,
    ) -> Self:
        """A handle on the store at `path` (default: the settings' `store`); nothing is read or made until it
        is used.

        `notify` is told, in a sentence, of what is done instead of what was expected (a damaged index
        rebuilt).
        """
        settings = settings or load_settings().values
        if path is not None:
            settings = settings.model_copy(update={"store": path if is_url(path) else Path(path)})
        return cls(settings, notify=notify)

    def close(self) -> None:
        """End the search threads and let go of encoder and tables; the handle may be used again."""
        if self._retriever is not None:
            self._retriever.close()
        self._retriever = self._store = self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def store(self) -> Store:
        """The store, which must exist."""
        with self._opening:
            if self._store is None:
                self._store = open_store(self.settings)
            return self._store

    @property
    def retriever(self) -> Retriever:
        """Answers queries; holds the loaded encoder and the open tables."""
        with self._opening:
            if self._retriever is None:
                store = self.store  # which may be missing
                prepare_searching()
                self._retriever = Retriever(
                    store,
                    choice=encoder_choice(self.settings),
                    loaded=self._writer,
                    indexing=indexing(self.settings),
                    notify=self.notify,
                )
            return self._retriever

    def query(
        self,
        text: str,
        *,
        k: int | None = None,
        mode: Mode | str | None = None,
        domains: Sequence[str] | None = None,
        where: Filter | str | None = None,
        fusing: Fusing | None = None,
        refine: Refinement | None = None,
    ) -> Answer:
        """The best `k` chunks for `text`; see `Retriever.query`. `refine`: what is done to them then."""
        return self.query_many(
            [text], k=k, mode=mode, domains=domains, where=where, fusing=fusing, refine=refine
        )[0]

    def query_many(
        self,
        texts: Sequence[str],
        *,
        k: int | None = None,
        mode: Mode | str | None = None,
        domains: Sequence[str] | None = None,
        where: Filter | str | None = None,
        fusing: Fusing | None = None,
        refine: Refinement | None = None,
    ) -> list[Answer]:
        """As `query`, for many texts on one generation."""
        search = self._search(mode=mode, domains=domains, where=where, fusing=fusing)
        return self._answers(texts, search=search, k=self.settings.k if k is None else k, refine=refine)

    def _search(
        self,
        *,
        mode: Mode | str | None,
        domains: Sequence[str] | None,
        where: Filter | str | None,
        fusing: Fusing | None = None,
    ) -> partial[list[Answer]]:
        """`Retriever.query_many`, with what was asked for, else what the settings say."""
        settings = self.settings
        return partial(
            self.retriever.query_many,
            mode=mode or settings.mode,
            domains=domains,
            where=where,
            mass=settings.mass,
            fusing=fusing or Fusing(across=settings.fusion, weight=settings.vector_weight),
        )

    def _answers(
        self,
        texts: Sequence[str],
        *,
        search: partial[list[Answer]],
        k: int,
        refine: Refinement | None,
        snapshot: Snapshot | None = None,
    ) -> list[Answer]:
        """Answers from the generation of `snapshot`, or, without one, from the newest."""
        if refine is None:
            return search(texts, k=k, snapshot=snapshot)
        snapshot = snapshot or self.retriever.snapshot()
        search = partial(search, snapshot=snapshot)
        return refined(texts, k=k, refine=refine, search=search, snapshot=snapshot)

    def context(
        self,
        text: str,
        *,
        budget: int | None = None,
        form: ContextFormat | str | None = None,
        options: ContextOptions | None = None,
        k: int = 50,
        mode: Mode | str | None = None,
        domains: Sequence[str] | None = None,
        where: Filter | str | None = None,
        refine: Refinement | None = None,
    ) -> Context:
        """Cited text for a language model: whole chunks of the best hits, within a budget of tokens.

        `options`: see `ContextOptions`; `budget` and `form` go before it.
        """
        options = context_options(self.settings, options, budget=budget, form=form)
        count = token_count(options.tokenizer) if options.tokenizer else None  # before anything is searched
        snapshot = self.retriever.snapshot()  # kept, so that `gc` leaves what the answer is made from
        search = self._search(mode=mode, domains=domains, where=where)
        (answer,) = self._answers([text], search=search, k=k, refine=refine, snapshot=snapshot)
        assembly = Assembly.of(
            snapshot.generation,
            secret=self.store.secret,
            count=count or snapshot.encoder.count_tokens,
        )
        return build_context(answer.hits, query=text, assembly=assembly, options=options)

    def verify_citations(self, context: Context) -> tuple[Verdict, ...]:
        """What became of every cited span, in its source and in the store; see `citing.verify_citations`."""
        from moe_retrieval.retrieval.citations.citing import verify_citations

        return verify_citations(self.store, context)

    def route(self, text: str, *, mass: float | None = None, nearest: int = 0) -> RouteReport:
        """Where a query of this text would be searched, and why; see `explaining.explain_route`."""
        from moe_retrieval.retrieval.explaining import explain_route

        return explain_route(
            self.retriever, text, mass=self.settings.mass if mass is None else mass, nearest=nearest
        )

    def status(self) -> Status:
        """The live generation: its domains, their experts and indexes."""
        from moe_retrieval.generations import live_generation
        from moe_retrieval.status import status_of

        return status_of(self.store, live_generation(self.store))

    def history(self) -> tuple[Past, ...]:
        """The generations of the store, newest last; see `generations.history`."""
        return generations.history(self.store)

    def encoder(self) -> Encoder:
        """The encoder of the live generation, or, before there is one, the encoder that the settings name."""
        try:
            store = self.store
        except NothingFoundError:
            return pinned.load_encoder(None, encoder_choice(self.settings), experts={})
        return pinned.pinned_encoder(store, store.catalog.latest(), encoder_choice(self.settings))
