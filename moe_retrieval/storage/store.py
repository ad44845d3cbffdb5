"""A store: its marker, catalog, tables, and the places of experts, routers and indexes."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.errors import (
    ForeignTableError,
    MoeretError,
    StoreCorruptError,
    UsageError,
)
from moe_retrieval.storage.catalog import Catalog
from moe_retrieval.storage.durability import file_faults
from moe_retrieval.storage.places.marker import PROGRESS, check_store, make_store, place_of
from moe_retrieval.storage.places.place import SECRET, TABLES
from moe_retrieval.storage.seal import sealed, unsealed
from moe_retrieval.storage.tables.table import Table
from moe_retrieval.storage.tables.view import TableView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.places.place import Place

_TABLE = re.compile(r"d_(?P<domain>[a-z0-9-]+)\.g(?P<number>\d+)")


class Store:
    """One corpus in a folder or a bucket. Readers need nothing but the place; writers hold `lease()`."""

    def __init__(self, place: Place, *, wait: float = 0.0) -> None:
        self.place = place
        self.wait = wait
        self.catalog = Catalog(place)
        self.experts_dir = place.local / "experts"
        self.routers_dir = place.local / "routers"
        self.indexes_dir = place.local / "indexes"
        self.secret = self._read_secret()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        create: bool = False,
        durable: bool = True,
        wait: float = 0.0,
        cache: Path | None = None,
    ) -> Store:
        """The store at `path`, a folder or `s3://bucket/prefix`; with `create`, a new one if there is none.

        `wait`: seconds that `lease` waits for another writer. `cache`: folder for what a store in a bucket
        needs locally (default: in the user's cache).

        Raises:
            NothingFoundError: there is no store.
            UsageError: the folder holds something else.
            StoreVersionError: a newer moeret wrote it.
            StoreReadOnlyError: it may not be read, or not be created there.
        """
        place = place_of(path, durable=durable, cache=cache)
        with file_faults(f"open the store {place.name}"):
            if create:
                make_store(place)
            check_store(place)
            return cls(place, wait=wait)

    @property
    def name(self) -> str:
        """What people call it: its path, or its URL."""
        return self.place.name

    @property
    def path(self) -> Path:
        """Its folder on this machine; of a store in a bucket, that of what is kept of it here."""
        return self.place.local

    @property
    def durable(self) -> bool:
        return self.place.durable

    def lease(self, wait: float | None = None) -> AbstractContextManager[None]:
        """The right to write, for the length of a `with` block.

        Raises:
            StoreBusyError: another process still has it after `wait` seconds (default: as the store was
                opened); the message says which.
        """
        return self.place.lease(wait=self.wait if wait is None else wait)

    def create_table(self, domain: str, *, dim: int, fingerprint: str) -> Table:
        """A new, empty table for a domain, beside the ones it has; with a number above theirs."""
        live = self.catalog.latest()
        known = [entry.table for entry in live.domains.values()] if live else []
        used = [number for one, number in [*self._numbered(), *_parsed(known)] if one == domain]
        name = f"d_{domain}.g{max(used, default=0) + 1}"
        if not _TABLE.fullmatch(name):
            hint = "use lower-case letters, digits and hyphens"
            raise UsageError(f"{domain!r} cannot name a table", hint=hint)
        after = live.number if live else 0
        return Table.create(self.place, name=name, dim=dim, fingerprint=fingerprint, after=after)

    def table(self, name: str, *, writing: bool = True, resume: bool = False) -> Table:
        """A writer's handle on a table at its latest version; what a power cut left torn is set aside first.

        Rows beyond the version that the catalog records are those of a run that was killed. With `resume`,
        they are gone on with if no generation was published since they were written: a document that moves
        leaves one table and comes into another, so all tables go on together or none. Else they go. Without
        `writing` all stays as it is.

        Raises:
            StoreCorruptError: a version the catalog records is damaged or gone.
        """
        number, pinned, recorded = self._acknowledged(name)
        if writing:
            self.place.mend(name, acknowledged=pinned)
        table = Table(self.place, name=name, recorded=recorded)
        if (newest := table.version) < pinned:
            raise StoreCorruptError(
                f"table {name} ends at version {newest}, but the catalog records {pinned}",
                hint="restore the store from a copy, or delete it and index again",
            )
        if writing and pinned:
            if newest > pinned and not (resume and self._progress(name) == number):
                table.restore(pinned)
                self.place.settle()  # or a power cut takes it back, and leaves the note that vouches for it
            if resume:
                self.note_progress(name, number)
        return table

    def is_gone_on_with(self, table: str, *, number: int) -> bool:
        """Whether the next run keeps what was written to a table since generation `number`, the newest."""
        return self._progress(table) == number

    def note_progress(self, table: str, number: int) -> None:
        """Say that what is written to a table from now on comes after generation `number`."""
        if self._progress(table) != number:
            self.place.replace(f"{PROGRESS}/{table}", sealed(str(number)), lasting=False)

    def view(self, entry: DomainEntry) -> TableView:
        """The table of a catalog entry at the version that the entry pins, read-only.

        Raises:
            ForeignTableError: the table says it was written with another encoder than the entry.
            StoreCorruptError: the table or that version of it is missing or damaged.
        """
        view = TableView(self.place, name=entry.table, version=entry.version)
        if view.fingerprint != entry.fingerprint:
            raise ForeignTableError(
                f"table {entry.table} was written with encoder {view.fingerprint[:12] or '?'},"
                f" the catalog records {entry.fingerprint[:12]}",
                hint="restore the store from a copy, or delete it and index again",
            )
        if view.rows != entry.rows:
            raise StoreCorruptError(
                f"table {entry.table} has {view.rows} rows, the catalog records {entry.rows}",
                hint="restore the store from a copy, or delete it and index again",
            )
        return view

    def unpublished(
        self, domain: str, *, fingerprint: str | None = None, after: int | None = None
    ) -> Table | None:
        """The newest readable table of a domain that was never published: what a killed run left.

        With `fingerprint`, only one that was written with that encoder. With `after`, only one that was made
        while that generation was the newest (0: before the first); else one of any age that no generation
        since names, as far as they can be read.

        Raises:
            StoreCorruptError: the newest generation is damaged; older ones are passed over.
        """
        live = self.catalog.latest()
        used = {entry.table for entry in live.domains.values()} if live else set()
        numbers = sorted((number for one, number in self._numbered() if one == domain), reverse=True)
        for name in (f"d_{domain}.g{number}" for number in numbers):
            if name in used or (table := self._readable(name)) is None:
                continue
            right = fingerprint in (None, table.fingerprint) and after in (None, table.after)
            if right and not self._was_published(table):
                return table
        return None

    def leftovers(self, fingerprint: Callable[[str], str]) -> dict[str, Table]:
        """By domain, the table to go on with that a run left which was killed before it published.

        `fingerprint` gives that of the encoder in use for a domain: a table of another is not gone on with.
        Nor is one older than the newest generation: its domain was removed, or it was abandoned.
        """
        live = self.catalog.latest()
        number, held = (live.number, set(live.domains)) if live else (0, set())
        loose = {domain for domain, _ in self._numbered()} - held
        found = {
            domain: self.unpublished(domain, fingerprint=fingerprint(domain), after=number)
            for domain in sorted(loose)
        }
        return {domain: table for domain, table in found.items() if table is not None}

    def _numbered(self) -> list[tuple[str, int]]:
        names = self.place.names(TABLES)
        return _parsed(name.removesuffix(".lance") for name in names if name.endswith(".lance"))

    def _progress(self, table: str) -> int:
        try:
            return int(unsealed(self.place.read(f"{PROGRESS}/{table}")))
        except (FileNotFoundError, ValueError):
            return 0

    def _readable(self, name: str) -> Table | None:
        try:
            return self.table(name)
        except MoeretError:
            return None  # killed while it was being created

    def _was_published(self, table: Table) -> bool:
        for number in (one for one in self.catalog.numbers() if one > table.after):
            with contextlib.suppress(MoeretError):
                if any(one.table == table.name for one in self.catalog.read(number).domains.values()):
                    return True
        return False

    def _acknowledged(self, table: str) -> tuple[int, int, str]:
        """The newest generation's number, the version it records of a table, and the list of checksums."""
        live = self.catalog.latest()
        if live is None:
            return 0, 0, ""
        found = [(one.version, one.sums) for one in live.domains.values() if one.table == table]
        return (live.number, *max(found, default=(0, "")))

    def _read_secret(self) -> bytes:
        try:
            found = self.place.read(SECRET)
        except FileNotFoundError:
            found = b""
        if len(found) != 32:
            raise StoreCorruptError(
                f"{self.name}/{SECRET} is missing or damaged",
                hint="delete it; the next moeret index makes a new one",
            )
        return found


def _parsed(names: Iterable[str]) -> list[tuple[str, int]]:
    """Domain and number of each name that is one of a table."""
    return [(found["domain"], int(found["number"])) for name in names if (found := _TABLE.fullmatch(name))]
