"""Examine what serves all domains: the encoder against the recorded fingerprints, the router, candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_retrieval.doctor.findings import Finding
from moe_retrieval.errors import MoeretError
from moe_retrieval.retrieval.candidates import candidate_experts, newcomers
from moe_retrieval.retrieval.routing import load_router

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.moeret import Moeret
    from moe_retrieval.storage.catalog import Generation


def examine_encoder(moeret: Moeret, live: Generation) -> Iterator[Finding]:
    """Findings about encoder, router and the experts that wait."""
    try:
        moeret.encoder()
        yield Finding("ok", "encoder", "has the recorded fingerprint of every domain")
    except MoeretError as error:
        yield Finding("failed", "encoder", error.message, error.hint)
    try:
        load_router(moeret.store, live)
        yield Finding("ok", "router", "fitted" if live.router else "none: there is one domain or none")
    except MoeretError as error:
        yield Finding("failed", "router", error.message, "moeret doctor --repair")
    yield from _waiting(moeret, live)


def _waiting(moeret: Moeret, live: Generation) -> Iterator[Finding]:
    try:
        held, new = candidate_experts(moeret.store, live), newcomers(moeret.store, live)
    except MoeretError as error:
        yield Finding("failed", "candidates", error.message, error.hint)
        return
    for domain, folder in held.items():
        if folder.name != live.domains[domain].expert:
            message = "a trained expert waits for its reindex"
            yield Finding("warning", f"domain {domain}", message, f"moeret reindex --domain {domain}")
    for domain in new:
        message = "a trained expert waits for the first documents"
        yield Finding("ok", f"domain {domain}", message, f"moeret index PATH --domain {domain}")
