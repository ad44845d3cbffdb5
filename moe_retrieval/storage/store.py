"""A store: its marker, catalog, tables, and the places of experts, routers and indexes."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.errors import (
    ForeignTableError,
    MoeretError,
    NothingFoundError,
    StoreCorruptError,
    StoreVersionError,
    UsageError,
)
from moe_retrieval.storage.catalog import Catalog
from moe_retrieval.storage.durability import file_faults
from moe_retrieval.storage.folder import Folder
from moe_retrieval.storage.place import TABLES, is_url
from moe_retrieval.storage.seal import sealed, unsealed
from moe_retrieval.storage.table import Table
from moe_retrieval.storage.view import TableView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.place import Place

FORMAT = 1
"""Of the folder's layout. What a generation file holds has a format of its own (`catalog.FORMAT`)."""

_MARKER, _SECRET = "store.json", "secret"
_PROGRESS = "progress"
_FOLDERS = ("catalog", TABLES, "experts", "routers", "indexes")
_OURS = {_MARKER, _SECRET, "lock", _PROGRESS, "readers", *_FOLDERS}
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
        place = _place(path, durable=durable, cache=cache)
        with file_faults(f"open the store {place.name}"):
            present = _present(place)
            if create and not (present and _has(place, _SECRET)):
                _create(place)
            elif not present:
                hint = f"moeret index PATH --store {place.name}"
                raise NothingFoundError(f"there is no store at {place.name}", hint=hint)
            _check_marker(place)
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
        """A new, empty table for a domain, beside the ones it has; no number is used twice."""
        live = self.catalog.latest()
        known = [entry.table for entry in live.domains.values()] if live else []
        used = [number for one, number in [*self._numbered(), *_parsed(known)] if one == domain]
        name = f"d_{domain}.g{max(used, default=0) + 1}"
        if not _TABLE.fullmatch(name):
            hint = "use lower-case letters, digits and hyphens"
            raise UsageError(f"{domain!r} cannot name a table", hint=hint)
        after = live.number if live else 0
        return Table.create(self.place, name=name, dim=dim, fingerprint=fingerprint, after=after)

    def table(self, name: str, *, writing: bool = True) -> Table:
        """A writer's handle on a table at its latest version; what a power cut left torn is set aside first.

        Rows beyond the version that the catalog records are those of a run that was killed: the next goes on
        with them. If they were written upon another version (the store was rolled back), they go. Without
        `writing` all stays as it is.

        Raises:
            StoreCorruptError: a version the catalog records is damaged or gone.
        """
        pinned = self._acknowledged(name)
        if writing:
            self.place.mend(name, acknowledged=pinned)
        table = Table(self.place, name=name)
        if (newest := table.version) < pinned:
            raise StoreCorruptError(
                f"table {name} ends at version {newest}, but the catalog records {pinned}",
                hint="restore the store from a copy, or delete it and index again",
            )
        if writing and pinned:
            if newest > pinned and self._progress(name) != pinned:
                table.restore(pinned)
            self.note_progress(name, pinned)
        return table

    def note_progress(self, table: str, version: int) -> None:
        """Say that what is written to a table from now on builds upon this version, as the catalog does."""
        if self._progress(table) != version:
            self.place.replace(f"{_PROGRESS}/{table}", sealed(str(version)), lasting=False)

    def forget_progress(self, table: str) -> None:
        """What was written to a table and not published is not gone on with."""
        self.place.remove(f"{_PROGRESS}/{table}")

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
            return int(unsealed(self.place.read(f"{_PROGRESS}/{table}")))
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

    def _acknowledged(self, table: str) -> int:
        live = self.catalog.latest()
        versions = [one.version for one in live.domains.values() if one.table == table] if live else []
        return max(versions, default=0)

    def _read_secret(self) -> bytes:
        try:
            found = self.place.read(_SECRET)
        except FileNotFoundError:
            found = b""
        if len(found) != 32:
            raise StoreCorruptError(
                f"{self.name}/{_SECRET} is missing or damaged",
                hint="delete it; the next moeret index makes a new one",
            )
        return found


def _place(path: str | Path, *, durable: bool, cache: Path | None) -> Place:
    if is_url(path):
        from moe_retrieval.storage.bucket import Bucket

        return Bucket.open(str(path), cache=cache)
    return Folder(Path(path).expanduser().resolve(), durable=durable)


def _parsed(names: Iterable[str]) -> list[tuple[str, int]]:
    """Domain and number of each name that is one of a table."""
    return [(found["domain"], int(found["number"])) for name in names if (found := _TABLE.fullmatch(name))]


def _present(place: Place) -> bool:
    """Whether there is a store; a folder of other things is refused, one half created is not."""
    names = set(place.names(""))
    if isinstance(place, Folder) and place.local.exists() and not place.local.is_dir():
        raise UsageError(f"{place.name} is a file, not a store folder", hint="give --store a folder")
    if _MARKER in names:
        return True
    if names - _OURS and not all(name.startswith(".") and name.endswith(".tmp") for name in names - _OURS):
        hint = "give --store a new or empty folder"
        raise UsageError(f"{place.name} is not empty and is no store", hint=hint)
    if any(name.startswith("gen-") for name in place.names("catalog")):
        hint = "restore it from a copy of the store"
        raise StoreCorruptError(f"{place.name}/{_MARKER} is missing", hint=hint)
    return False


def _has(place: Place, name: str) -> bool:
    return name in place.names("")


def _create(place: Place) -> None:
    for name in ("", *_FOLDERS):
        (place.local / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    place.put_if_absent(_SECRET, secrets.token_bytes(32))
    # The marker comes last: where it is, the rest is.
    place.put_if_absent(_MARKER, json.dumps({"format": FORMAT, "id": uuid.uuid4().hex}).encode())


def _check_marker(place: Place) -> None:
    name = f"{place.name}/{_MARKER}"
    try:
        written = int(json.loads(place.read(_MARKER))["format"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreCorruptError(f"{name} is damaged", hint="restore it from a copy of the store") from error
    if written > FORMAT:
        raise StoreVersionError(
            f"{place.name} has format {written}, this moeret reads up to {FORMAT}", hint="upgrade moeret"
        )
