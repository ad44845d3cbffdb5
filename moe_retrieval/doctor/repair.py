"""Make again what is derived and damaged: checksum lists, text indexes, router, vector indexes.

All under the writer lease, and published as one generation. What is not derived is left as it is: to write
over it would take away what a copy could still be compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from moe_retrieval.doctor.findings import Finding
from moe_retrieval.doctor.tables import MANY_FRAGMENTS, index_problems, is_long
from moe_retrieval.errors import MoeretError
from moe_retrieval.opening import indexing
from moe_retrieval.retrieval.indexing import build_indexes
from moe_retrieval.retrieval.publisher import publish, republish
from moe_retrieval.retrieval.routing import load_router
from moe_retrieval.storage.durability import file_faults
from moe_retrieval.storage.indexes import sidecar
from moe_retrieval.storage.maintenance.health import health_of, wrong_files
from moe_retrieval.storage.maintenance.readers import Readers
from moe_retrieval.storage.maintenance.scrub import scrub
from moe_retrieval.storage.maintenance.stock import INDEXES, Kind
from moe_retrieval.storage.places.marker import PROGRESS
from moe_retrieval.storage.tables import sums
from moe_retrieval.storage.tables.table_files import manifests

if TYPE_CHECKING:
    from moe_retrieval.doctor.examination import Examination
    from moe_retrieval.moeret import Moeret
    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.tables.table import Table

_INDEX_FILES = (".json", sidecar.INDEX, sidecar.ROWS)


def repair(moeret: Moeret, wanted: Examination) -> list[Finding]:
    """Repair what can be; with `scrub`, all bytes say what is damaged. One finding per thing done."""
    try:
        with moeret.store.lease():
            live = moeret.store.catalog.latest()
            done = [*_Repair(moeret, live, wanted).run()] if live else []
    except MoeretError as error:
        return [Finding("failed", "repair", f"nothing was repaired: {error.message}", error.hint)]
    return done or [Finding("ok", "repair", "nothing that can be made again was damaged")]


class Work(NamedTuple):
    """Something to do to a table. `anew`: its text index is built from all rows."""

    said: str
    anew: bool


class _Repair:
    """One repair of a store, under its lease."""

    def __init__(self, moeret: Moeret, live: Generation, wanted: Examination) -> None:
        self.moeret, self.store, self.live = moeret, moeret.store, live
        found = scrub(self.store, progress=wanted.progress).damages if wanted.scrub else ()
        self.damaged = {one.name for one in found if one.live or one.kind is Kind.INDEX}
        self.entries = dict(live.domains)

    def run(self) -> Iterator[Finding]:
        for number in self.store.catalog.numbers():
            yield from self._tried(f"generation {number}", self._lists(number))
        for domain in self.live.domains:
            yield from self._tried(f"domain {domain}", self._domain(domain))
        yield from self._tried("notes of runs", self._notes())
        yield from self._tried("vector indexes", self._indexes())
        yield from self._tried("router", self._publish())
        yield from self._tried("readers", self._readers())

    def _tried(self, subject: str, step: Iterator[str]) -> Iterator[Finding]:
        """What a step did; a step that fails does not keep the others from their work."""
        try:
            for said in step:
                yield Finding("ok", "repair", f"{subject}: {said}")
        except MoeretError as error:
            yield Finding("failed", "repair", f"{subject}: {error.message}", error.hint)

    def _lists(self, number: int) -> Iterator[str]:
        """Lists of checksums that are lost: one made anew is right if its name is the one recorded."""
        for entry in self.store.catalog.read(number).domains.values():
            if entry.sums and not self._reads(entry) and self._listed(entry) == entry.sums:
                yield f"the checksums of table {entry.table} were listed again, and all files match them"

    def _reads(self, entry: DomainEntry) -> bool:
        try:
            sums.read(self.store.place, entry.sums)
        except MoeretError:
            return False
        return True

    def _listed(self, entry: DomainEntry) -> str:
        place, dataset = self.store.place, self.store.view(entry).dataset
        return sums.record(place, table=entry.table, dataset=dataset, previous="")

    # --- tables -------------------------------------------------------------------------------------------

    def _domain(self, domain: str) -> Iterator[str]:
        entry = self.entries[domain]
        if self._stopped(entry):
            self.store.place.mend(entry.table, acknowledged=entry.version)
            if not self._stopped(entry):
                yield "versions that a power cut left torn were set aside"
        if work := self._work(entry):
            table = self._at(entry)
            table.rebuild_text_index() if work.anew else table.maintain()
            self.entries[domain] = self._entry(table, entry)
            yield work.said
        elif not entry.sums and self.store.view(entry).digest() == entry.digest:
            self.entries[domain] = replace(entry, sums=self._listed(entry))
            yield "the checksums of its table are recorded"

    def _stopped(self, entry: DomainEntry) -> bool:
        """Whether a table was written to after the version that is live."""
        newest = next((number for number, _ in manifests(self.store.place, entry.table)), entry.version)
        return newest > entry.version

    def _work(self, entry: DomainEntry) -> Work | None:
        """What has to be done to the derived parts of a table."""
        wrong = self.damaged | {name for name, _ in wrong_files(self.store.place, entry)}
        folder = f"tables/{entry.table}.lance/"
        mine = {name for name in wrong if name.startswith(folder)}
        if any(not name.startswith(f"{folder}_indices/") for name in mine):
            return None  # its rows are damaged: nothing may be made of them
        if mine:
            return Work("its text index was built again", anew=True)
        health = health_of(self.store.view(entry))
        if not health.text_indexed and entry.rows:
            return Work("its text index was built", anew=True)
        if health.fragments > MANY_FRAGMENTS or is_long(health.text_tail, entry.rows):
            return Work("its fragments were joined and its text index brought up to date", anew=False)
        return None

    def _at(self, entry: DomainEntry) -> Table:
        """The table with the rows of the live generation; a run that was stopped does its work again."""
        return self.store.table(entry.table)

    def _entry(self, table: Table, before: DomainEntry) -> DomainEntry:
        return table.entry(
            expert=before.expert,
            description=before.description,
            precision=before.precision,
            chunking=before.chunking,
            before=before,
        )

    def _notes(self) -> Iterator[str]:
        for name in sorted(name for name in self.damaged if name.startswith(f"{PROGRESS}/")):
            self.store.place.remove(name)
            yield f"{name} was removed"

    # --- what serves all domains --------------------------------------------------------------------------

    def _publish(self) -> Iterator[str]:
        refit = not self._router_loads()
        if refit:
            publish(
                self.store,
                self.entries,
                live=self.live,
                encoder=self.moeret.encoder(),
                refit=True,
                partial=self.live.partial,
                note="repair",
            )
            yield "was fitted again"
        elif self.entries != self.live.domains:
            republish(self.store, self.entries, live=self.live, note="repair")

    def _router_loads(self) -> bool:
        try:
            load_router(self.store, self.live)
        except MoeretError:
            return False
        return True

    def _indexes(self) -> Iterator[str]:
        """Files of damaged indexes go, so that none of them is found; then what is missing is built."""
        stems = {PurePosixPath(name).stem for name in self.damaged if name.startswith(f"{INDEXES}/")}
        for stem in sorted(stems):
            for suffix in _INDEX_FILES:
                self._remove(f"{stem}{suffix}")
            yield f"the damaged index {stem} was removed"
        for entry in self.entries.values():
            for problem in index_problems(self.store, entry):
                yield f"{problem}; it is built again"
        before = self._descriptions()
        build_indexes(self.store, self.entries, indexing=indexing(self.moeret.settings))
        for stem in sorted(self._descriptions() - before):
            yield f"the index {stem} was built"

    def _remove(self, name: str) -> None:
        """An index file, and of a store in a bucket what is kept of it here."""
        self.store.place.remove(f"{INDEXES}/{name}")
        with file_faults(f"delete {name}"):
            (self.store.indexes_dir / name).unlink(missing_ok=True)

    def _descriptions(self) -> set[str]:
        return {one.name for one in sidecar.read_all(self.store.indexes_dir)}

    def _readers(self) -> Iterator[str]:
        folder = self.store.place.names("readers")
        Readers(self.store.place).live(clear=True)
        if cleared := len(folder) - len(self.store.place.names("readers")):
            yield f"{cleared} notes of readers that are gone were cleared"
