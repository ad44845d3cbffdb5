"""Examine what runs left behind: rows that were never published, files that nothing needs, dead readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_retrieval.doctor.findings import Finding
from moe_retrieval.errors import MoeretError
from moe_retrieval.storage.maintenance.gc import collect
from moe_retrieval.storage.tables.table_files import manifests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store


def examine_leftovers(store: Store, live: Generation) -> Iterator[Finding]:
    """Findings about unfinished runs, and about space that `moeret gc` would free without a generation."""
    for domain, entry in live.domains.items():
        newest = next((number for number, _ in manifests(store.place, entry.table)), entry.version)
        if newest > entry.version and store.is_gone_on_with(entry.table, number=live.number):
            message = f"table {entry.table} was written to after generation {live.number} was published"
            cure = "moeret index PATH goes on with the run that was stopped, if none is at work"
            yield Finding("warning", f"domain {domain}", message, cure)
    try:
        report = collect(store, keep=max(1, len(store.catalog.numbers())), dry_run=True)
    except MoeretError:
        return  # a generation or table is damaged: other findings say so
    if report.removed:
        message = f"{len(report.removed)} things that nothing needs take {report.bytes / 1e6:,.1f} MB"
        yield Finding("ok", "leftovers", message, "moeret gc frees them")
    else:
        yield Finding("ok", "leftovers", "none")
