"""Change what a store says of a domain, or take it out: generations in which no vector is another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from moe_retrieval.errors import UnknownDomainError
from moe_retrieval.generations import live_generation
from moe_retrieval.retrieval import candidates
from moe_retrieval.retrieval.publisher import publish, republish

if TYPE_CHECKING:
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.store import Store


def describe(store: Store, domain: str, description: str) -> None:
    """Set the description of a domain.

    Raises:
        UnknownDomainError: the store has no such domain.
    """
    with store.lease():
        live, entry = _entry(store, domain)
        entries = {**live.domains, domain: replace(entry, description=description)}
        republish(store, entries, live=live, note=f"describe {domain}")


def remove(store: Store, domain: str, *, encoder: Encoder) -> int:
    """Take a domain out of the store; gives the number of its documents. Older generations keep it.

    Of a domain that has only a candidate, that is forgotten.

    Raises:
        UnknownDomainError: the store has no such domain.
    """
    with store.lease():
        if domain in candidates.newcomers(store, store.catalog.latest()):
            candidates.forget_candidate(store, domain)
            return 0
        live, entry = _entry(store, domain)
        kept = {name: other for name, other in live.domains.items() if name != domain}
        note = f"remove {domain}"
        publish(store, kept, live=live, encoder=encoder, refit=True, partial=live.partial, note=note)
        candidates.forget_candidate(store, domain)
    return entry.documents


def _entry(store: Store, domain: str) -> tuple[Generation, DomainEntry]:
    live = live_generation(store)
    if domain not in live.domains:
        raise UnknownDomainError(domain, live.domains)
    return live, live.domains[domain]
