"""Make what was written visible: one generation for all domains, with its router and indexes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from moe_retrieval.retrieval.routing import fit_router
from moe_retrieval.storage.index import build_index

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.encoder import Encoder
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
) -> Generation:
    """Publish a generation made of exactly these domains; `partial` marks one in the middle of a run.

    `refit` fits the router to what is stored now; else it is carried over (queries search a domain that the
    router does not know in any case).
    """
    router = live.router if live else ""
    if refit:
        fitted = fit_router(store, entries, encoder)
        router = fitted.save(store.routers_dir) if fitted else ""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    model = encoder.model_identity()
    return store.catalog.publish(entries, model=model, router=router, created=created, partial=partial)


def republish(store: Store, entries: Mapping[str, DomainEntry], *, live: Generation) -> Generation:
    """The live generation again with these entries: for changes that touch no vector."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return store.catalog.publish(
        entries, model=live.model, router=live.router, created=created, partial=live.partial
    )


def build_indexes(store: Store, live: Generation | None, *, recall: float) -> None:
    """A search structure for every domain whose rows changed since its last one."""
    for entry in live.domains.values() if live else ():
        if entry.rows:
            build_index(store.view(entry), folder=store.indexes_dir, entry=entry, recall=recall)
