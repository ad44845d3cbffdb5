"""Taking things out of a store, and the record of it: what went, what it weighed, what stayed and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from moe_retrieval.errors import MoeretError, StoreCorruptError
from moe_retrieval.storage.engine import engine_faults
from moe_retrieval.storage.places.folder import Folder
from moe_retrieval.storage.tables.table_files import files_of, folder_of, manifests

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from moe_retrieval.storage.places.place import Place


class Kind(StrEnum):
    """What is taken away."""

    GENERATION = "generation"
    TABLE = "table"
    VERSIONS = "old versions"
    EXPERT = "expert"
    ROUTER = "router"
    INDEX = "index"
    CHECKSUMS = "checksums"
    NOTE = "note"
    TEMPORARY = "temporary file"


@dataclass(frozen=True, slots=True)
class Removal:
    """Something that went, or would go, and its bytes; of old versions that would go, about so many."""

    kind: Kind
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that no kept generation needs and that stayed, or that shows damage; and why it stayed."""

    name: str
    why: str


class Sweep:
    """Removes, measures and remembers. With `dry_run` it only measures and remembers."""

    def __init__(self, place: Place, *, dry_run: bool) -> None:
        self.place, self.dry_run = place, dry_run
        self.removed: list[Removal] = []
        self.kept: list[Kept] = []

    def keep(self, name: str, why: str) -> None:
        """Remember that something stays."""
        self.kept.append(Kept(name, why))

    def files(self, kind: Kind, what: str, names: Iterable[str]) -> None:
        """Remove the files of one thing, in this order."""
        weight = 0
        for name in names:
            weight += weigh(self.place, name)
            if not self.dry_run:
                self.place.remove(name)
        self.removed.append(Removal(kind, what, weight))

    def tree(self, kind: Kind, what: str, folder: str, *, first: str = "") -> None:
        """Remove a folder; what is called `first` in it goes before the rest."""
        weight = weigh(self.place, folder)
        if not self.dry_run:
            if first:
                self.place.remove_tree(f"{folder}/{first}")
            self.place.remove_tree(folder)
        self.removed.append(Removal(kind, what, weight))

    def either(self, kind: Kind, name: str) -> None:
        """Remove a file or a folder."""
        if isinstance(self.place, Folder) and (self.place.local / name).is_dir():
            self.tree(kind, name, name)
        else:
            self.files(kind, name, [name])

    def table(self, table: str) -> None:
        """Remove a table. Its versions go first: what a kill leaves can then not be opened, or is whole."""
        self.tree(Kind.TABLE, table, folder_of(table), first="_versions")

    def versions(self, table: str, *, needed: frozenset[int]) -> None:
        """Remove the versions of a table but those needed and its latest.

        Raises:
            StoreCorruptError: a needed version that could be opened before cannot be any more.
        """
        if broken := [version for version in sorted(needed) if not _opens(self.place, table, version)]:
            self.keep(f"{table} at {broken}", "cannot be opened: its versions are left alone; moeret doctor")
            return
        if not self.dry_run:
            self.place.mend(table, acknowledged=max(needed))
        found = [version for version, _ in manifests(self.place, table)]
        if not (old := sorted({*found[1:]} - needed)):
            return
        rest = needed | {found[0]}
        weight = self._estimate(table, rest) if self.dry_run else self._clean(table, old)
        self.removed.append(Removal(Kind.VERSIONS, f"{table} ({_ranges(old)})", weight))
        for version in sorted(needed):
            if not _opens(self.place, table, version):
                raise StoreCorruptError(
                    f"version {version} of table {table} was lost while others were removed",
                    hint="restore the store from a copy",
                )

    def _estimate(self, table: str, versions: frozenset[int]) -> int:
        """Bytes of a table's files that these versions are not read from."""
        read: set[str] = set()
        with engine_faults(f"list the files of table {table}"):
            for version in versions:
                found = self.place.dataset(table, version=version)
                read.update(one.name for one in files_of(self.place, table, found))
        read.update(name for version, name in manifests(self.place, table) if version in versions)
        return weigh(self.place, folder_of(table)) - sum(weigh(self.place, name) for name in read)

    def _clean(self, table: str, versions: Sequence[int]) -> int:
        # What no manifest names is left to Lance, which removes it after a week: a commit may be under way.
        with engine_faults(f"remove old versions of table {table}"):
            done = self.place.dataset(table).cleanup_old_versions(
                versions=[*versions], error_if_tagged_old_versions=False
            )
        return int(done.bytes_removed)


def weigh(place: Place, name: str) -> int:
    """Bytes of a file, or of all files in a folder ("": the store); 0 where there is nothing."""
    if inside := place.names(name):
        return sum(weigh(place, f"{name}/{one}" if name else one) for one in inside)
    if isinstance(place, Folder) and (place.local / name).is_dir():
        return 0
    try:
        return place.size(name)
    except (FileNotFoundError, MoeretError):
        return 0


def _opens(place: Place, table: str, version: int) -> bool:
    try:
        with engine_faults(f"open table {table} at version {version}"):
            place.dataset(table, version=version).count_rows()
    except MoeretError:
        return False
    return True


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in short, as in: 1-4, 7."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
