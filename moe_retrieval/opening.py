"""What settings stand for: a store, the choice of an encoder, a chunker, the ways of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from moe_retrieval.contexts import ContextFormat
from moe_retrieval.corpus.chunking import Chunker
from moe_retrieval.engines.packaged import expert_folders
from moe_retrieval.errors import UsageError, did_you_mean
from moe_retrieval.retrieval.context import ContextOptions
from moe_retrieval.retrieval.indexer import IndexOptions
from moe_retrieval.retrieval.indexing import Indexing
from moe_retrieval.retrieval.pinned import EncoderChoice, reindexing_encoder
from moe_retrieval.retrieval.rebuilding.rechunk import ChunkSizes, recorded_sizes
from moe_retrieval.storage.places.filesystem import NEXT_STEP, network_warning
from moe_retrieval.storage.places.place import is_url
from moe_retrieval.storage.store import Store
from moe_retrieval.types import Durability

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.retrieval.reindexer import Reindexer
    from moe_retrieval.settings import Settings
    from moe_retrieval.storage.catalog import Generation


def open_store(
    settings: Settings, *, create: bool = False, notify: Callable[[str], None] = lambda _message: None
) -> Store:
    """The store that the settings name; with `create`, a new one where there is none.

    A writer (`create`) is told, by `notify`, of a network file system.
    """
    store = Store.open(
        settings.store,
        create=create,
        durable=settings.durability is Durability.POWER,
        wait=settings.lease_wait,
        cache=settings.cache,
    )
    if create and not is_url(settings.store) and (warning := network_warning(store.path)):
        notify(f"{warning}; {NEXT_STEP}")
    return store


def encoder_choice(settings: Settings) -> EncoderChoice:
    """What the settings ask of the encoder."""
    return EncoderChoice(
        model=settings.model,
        precision=settings.precision,
        engine=settings.engine,
        cache=settings.cache,
        device=settings.device,
        max_length=settings.max_length,
        query_prompt=settings.query_prompt,
        document_prompt=settings.document_prompt,
        experts=expert_folders(settings.experts),
    )


def chunker_for(encoder: Encoder, settings: Settings, live: Generation | None) -> Chunker:
    """The chunker of a run: as the settings say, else as the store was cut, so that what did not change costs
    nothing; in a new store, chunks of as many tokens as the encoder takes.
    """
    asked = ChunkSizes(settings.chunk_tokens, settings.chunk_overlap)
    sizes = asked if asked.given else recorded_sizes(live)
    return Chunker(
        encoder.count_tokens, max_tokens=sizes.tokens or encoder.token_limit, overlap=sizes.overlap
    )


def context_options(
    settings: Settings,
    given: ContextOptions | None,
    *,
    budget: int | None = None,
    form: ContextFormat | str | None = None,
) -> ContextOptions:
    """The options given, else those of the settings; `budget` and `form` go before both.

    Raises:
        UsageError: there is no such form, or the budget is below one.
    """
    options = given or ContextOptions(budget=settings.budget, tokenizer=settings.tokenizer)
    known = [one.value for one in ContextFormat]
    if form is not None and form not in known:
        raise UsageError(f"no context has the form {form!r}", hint=did_you_mean(form, known))
    return replace(
        options,
        budget=options.budget if budget is None else budget,
        form=options.form if form is None else ContextFormat(form),
    )


def index_options(settings: Settings) -> IndexOptions:
    """How an index run goes about its work."""
    return IndexOptions(publish_seconds=settings.publish_seconds, indexing=indexing(settings))


def indexing(settings: Settings) -> Indexing:
    """How search structures are built."""
    return Indexing(
        recall=settings.recall, memory=settings.index_memory * 1_000_000, engine=settings.index_engine
    )


def open_reindexer(store: Store, settings: Settings, *, notify: Callable[[str], None]) -> Reindexer:
    """What brings a store to the encoder of the settings, with registered candidates in place."""
    from moe_retrieval.generations import live_generation
    from moe_retrieval.retrieval.reindexer import Reindexer

    live = live_generation(store)
    return Reindexer(
        store,
        encoder=reindexing_encoder(store, live, encoder_choice(settings), notify=notify),
        indexing=indexing(settings),
        sizes=ChunkSizes(settings.chunk_tokens, settings.chunk_overlap),
        notify=notify,
    )
