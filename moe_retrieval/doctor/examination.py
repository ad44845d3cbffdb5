"""The whole examination: machine, store, if asked for its sources, all its bytes, and repairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.doctor.catalog import examine_catalog
from moe_retrieval.doctor.encoder import examine_encoder
from moe_retrieval.doctor.findings import Finding
from moe_retrieval.doctor.leftovers import examine_leftovers
from moe_retrieval.doctor.machine import examine_machine
from moe_retrieval.doctor.place import examine_place
from moe_retrieval.doctor.scrubbing import examine_bytes
from moe_retrieval.doctor.sources import examine_sources
from moe_retrieval.doctor.tables import examine_domain
from moe_retrieval.errors import MoeretError, NothingFoundError

if TYPE_CHECKING:
    from moe_retrieval.moeret import Moeret
    from moe_retrieval.settings import Resolved
    from moe_retrieval.storage.store import Store


@dataclass(frozen=True, slots=True)
class Examination:
    """What to do beyond the fast look: read sources again, read all bytes, repair what is derived.

    `progress` hears how many bytes were read, each time some were.
    """

    sources: bool = False
    scrub: bool = False
    repair: bool = False
    progress: Callable[[int], None] = lambda _bytes: None


def examine(resolved: Resolved, *, wanted: Examination | None = None) -> list[Finding]:
    """All findings. After a repair they are those of the repaired store, and what was done comes first."""
    from moe_retrieval.doctor.repair import repair
    from moe_retrieval.moeret import Moeret

    wanted = wanted or Examination()
    found = [*examine_machine(resolved)]
    with Moeret.open(settings=resolved.values) as moeret:
        try:
            store = moeret.store
        except NothingFoundError as error:
            return [*found, Finding("warning", "store", error.message, error.hint)]
        except MoeretError as error:
            return [*found, Finding("failed", "store", error.message, error.hint)]
        if wanted.repair:
            found += repair(moeret, wanted)
        return [*found, *examine_store(moeret, store, wanted)]


def examine_store(moeret: Moeret, store: Store, wanted: Examination) -> Iterator[Finding]:
    """All findings of a store: catalog and place, then domain by domain, then what serves all domains."""
    yield from examine_catalog(store)
    yield from examine_place(store)
    try:
        live = store.catalog.latest()
    except MoeretError:
        live = None  # the catalog's findings say so
    if live is not None:
        for domain, entry in live.domains.items():
            yield from examine_domain(store, domain, entry)
        yield from examine_encoder(moeret, live)
        yield from examine_sources(store, live, again=wanted.sources)
        yield from examine_leftovers(store, live)
    if wanted.scrub:
        yield from examine_bytes(store, progress=wanted.progress)
