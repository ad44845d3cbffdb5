"""Make what was written visible: one generation for all domains, with its router and indexes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from moe_retrieval.retrieval.indexing import build_indexes
from moe_retrieval.retrieval.routing import fit_router

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.retrieval.indexing import Indexing
    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.store import Store


def publish(
    store: Store,
    entries: Mapping[str, DomainEntry],
    *,
    live: Generation | None,
    encoder: Encoder,
    refit: bool,
    partial: bool = False,
    note: str = "",
    indexing: Indexing | None = None,
) -> Generation:
    """Publish a generation made of exactly these domains; `partial` marks one in the middle of a run.

    `refit` fits the router to what is stored now; else it is carried over (queries search a domain that the
    router does not know in any case). With `indexing`, every domain is given its search structure first: who
    sees the generation finds them there.
    """
    router = live.router if live else ""
    if refit:
        router = _fitted(store, entries, encoder, live)
    if indexing:
        build_indexes(store, entries, indexing=indexing)
    model = encoder.model_identity()
    return _publish(store, entries, live=live, model=model, router=router, partial=partial, note=note)


def republish(
    store: Store, entries: Mapping[str, DomainEntry], *, live: Generation, note: str = ""
) -> Generation:
    """The live generation again with these entries: for changes that touch no vector."""
    return _publish(
        store, entries, live=live, model=live.model, router=live.router, partial=live.partial, note=note
    )


def _fitted(
    store: Store, entries: Mapping[str, DomainEntry], encoder: Encoder, live: Generation | None
) -> str:
    """The name of a router fitted to what these entries hold; empty where they hold nothing."""
    router = fit_router(store, entries, encoder, live=live)
    if router is None:
        return ""
    name = router.save(store.routers_dir)
    store.place.share(f"routers/{name}.safetensors")
    return name


def _publish(
    store: Store,
    entries: Mapping[str, DomainEntry],
    *,
    live: Generation | None,
    model: Mapping[str, str],
    router: str,
    partial: bool,
    note: str,
) -> Generation:
    return store.catalog.publish(
        entries,
        model=model,
        router=router,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        partial=partial,
        note=note,
        after=live.number if live else 0,
    )
