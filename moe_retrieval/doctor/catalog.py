"""Examine the catalog: can every generation be read, and does each follow from the one before?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_retrieval.doctor.findings import Finding
from moe_retrieval.errors import MoeretError
from moe_retrieval.storage.catalog import name_of
from moe_retrieval.storage.maintenance.health import lost_generations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store


def examine_catalog(store: Store) -> Iterator[Finding]:
    """One finding if all is well, else one per generation that is not."""
    wrong = [*_wrong(store)]
    yield from wrong
    numbers = store.catalog.numbers()
    if not numbers:
        yield Finding("warning", "store", f"{store.name} holds no documents", "moeret index PATH")
    elif not any(one.failed for one in wrong):
        live = store.catalog.read(numbers[-1])
        many = f"{len(numbers)} generations kept, each follows from the one before"
        kept = many if len(numbers) > 1 else "the only one kept"
        domains = f"{len(live.domains)} domain{'s' if len(live.domains) > 1 else ''}"
        yield Finding("ok", "store", f"{store.name}, generation {live.number}, {domains}; {kept}")
        yield from _unsummed(live)


def _wrong(store: Store) -> Iterator[Finding]:
    before: Generation | None = None
    numbers, read = store.catalog.numbers(), []
    for number in numbers:
        subject = f"generation {number}"
        try:
            found = store.catalog.read(number)
        except MoeretError as error:
            level = "failed" if number == numbers[-1] else "warning"
            yield Finding(level, subject, error.message, error.hint)
            before = None
            continue
        if before and found.number == before.number + 1 and found.previous != before.seal:
            message = f"{name_of(number)} does not follow from the generation before it"
            yield Finding("failed", subject, message, "restore the catalog from a copy of the store")
        before = found
        read.append(found)
    if len(read) == len(numbers):
        for said in lost_generations(store.place, read):
            yield Finding("warning", "catalog", said, "restore the catalog from a copy of the store")


def _unsummed(live: Generation) -> Iterator[Finding]:
    bare = [domain for domain, entry in live.domains.items() if not entry.sums]
    if bare:
        message = f"no checksums of the tables of {', '.join(bare)}: an earlier moeret wrote them"
        yield Finding("warning", "checksums", message, "moeret doctor --repair records them")
