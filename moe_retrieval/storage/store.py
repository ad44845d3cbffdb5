"""A store folder: its marker, catalog, tables, and the places of experts, routers and indexes."""

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
from moe_retrieval.storage.durability import file_faults, put_if_absent
from moe_retrieval.storage.lease import hold
from moe_retrieval.storage.recovery import newest_version, set_torn_versions_aside
from moe_retrieval.storage.table import Table
from moe_retrieval.storage.view import TableView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from moe_retrieval.storage.catalog import DomainEntry

FORMAT = 1
_MARKER, _SECRET = "store.json", "secret"
_FOLDERS = ("catalog", "tables", "experts", "routers", "indexes")
_OURS = {_MARKER, _SECRET, "lock", *_FOLDERS}
_TABLE = re.compile(r"d_(?P<domain>[a-z0-9-]+)\.g(?P<number>\d+)")


class Store:
    """One corpus on disk. Readers need nothing but the folder; writers hold `lease()`."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path = path
        self.durable = durable
        self.catalog = Catalog(path / "catalog", durable=durable)
        self.experts_dir = path / "experts"
        self.routers_dir = path / "routers"
        self.indexes_dir = path / "indexes"
        self.secret = self._read_secret()
        self._tables = path / "tables"

    @classmethod
    def open(cls, path: str | Path, *, create: bool = False, durable: bool = True) -> Store:
        """The store at `path`; with `create`, a new one where there is none.

        Raises:
            NothingFoundError: there is no store.
            UsageError: the folder holds something else.
            StoreVersionError: a newer moeret wrote it.
            StoreReadOnlyError: it may not be read, or not be created there.
        """
        folder = Path(path).expanduser().resolve()
        with file_faults(f"open the store {folder}"):
            present = _present(folder)
            if create and not (present and (folder / _SECRET).is_file()):
                _create(folder, durable=durable)
            elif not present:
                hint = f"moeret index PATH --store {folder}"
                raise NothingFoundError(f"there is no store at {folder}", hint=hint)
            _check_marker(folder / _MARKER)
            return cls(folder, durable=durable)

    def lease(self) -> AbstractContextManager[None]:
        """The right to write, for the length of a `with` block.

        Raises:
            StoreBusyError: another process has it; the message says which.
        """
        return hold(self.path / "lock")

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
        return Table.create(self._tables, name=name, dim=dim, fingerprint=fingerprint, after=after)

    def table(self, name: str) -> Table:
        """A writer's handle on a table at its latest version; what a power cut left torn is set aside first.

        Raises:
            StoreCorruptError: a version the catalog records is damaged.
        """
        path = self._tables / f"{name}.lance"
        acknowledged = self._acknowledged(name)
        if newest_version(path) > acknowledged:
            set_torn_versions_aside(path, acknowledged=acknowledged)
        if (newest := newest_version(path)) < acknowledged:
            raise StoreCorruptError(
                f"table {name} ends at version {newest}, but the catalog records {acknowledged}",
                hint="restore the store from a copy, or delete it and index again",
            )
        return Table(self._tables, name=name)

    def view(self, entry: DomainEntry) -> TableView:
        """The table of a catalog entry at the version that the entry pins, read-only.

        Raises:
            ForeignTableError: the table says it was written with another encoder than the entry.
            StoreCorruptError: the table or that version of it is missing or damaged.
        """
        view = TableView(self._tables, name=entry.table, version=entry.version)
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
        with file_faults("list the tables"):
            names = [path.stem for path in self._tables.glob("d_*.lance")] if self._tables.is_dir() else []
        return _parsed(names)

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
            found = (self.path / _SECRET).read_bytes()
        except FileNotFoundError:
            found = b""
        if len(found) != 32:
            raise StoreCorruptError(
                f"{self.path / _SECRET} is missing or damaged",
                hint="delete it; the next moeret index makes a new one",
            )
        return found


def _parsed(names: Iterable[str]) -> list[tuple[str, int]]:
    """Domain and number of each name that is one of a table."""
    return [(found["domain"], int(found["number"])) for name in names if (found := _TABLE.fullmatch(name))]


def _present(folder: Path) -> bool:
    """Whether there is a store; a folder of other things is refused, one half created is not."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a store folder", hint="give --store a folder")
    names = {path.name for path in folder.iterdir()}
    if _MARKER in names:
        return True
    if names - _OURS and not all(name.startswith(".") and name.endswith(".tmp") for name in names - _OURS):
        raise UsageError(f"{folder} is not empty and is no store", hint="give --store a new or empty folder")
    if any((folder / "catalog").glob("gen-*.json")):
        raise StoreCorruptError(f"{folder / _MARKER} is missing", hint="restore it from a copy of the store")
    return False


def _create(folder: Path, *, durable: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in _FOLDERS:
        (folder / name).mkdir(exist_ok=True, mode=0o700)
    put_if_absent(folder / _SECRET, secrets.token_bytes(32), durable=durable)
    # The marker comes last: where it is, the rest is.
    marker = json.dumps({"format": FORMAT, "id": uuid.uuid4().hex}).encode()
    put_if_absent(folder / _MARKER, marker, durable=durable)


def _check_marker(path: Path) -> None:
    try:
        written = int(json.loads(path.read_bytes())["format"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreCorruptError(f"{path} is damaged", hint="restore it from a copy of the store") from error
    if written > FORMAT:
        raise StoreVersionError(
            f"{path.parent} has format {written}, this moeret reads up to {FORMAT}", hint="upgrade moeret"
        )
