"""The checksums of a table version: sha256 of every file that it is read from.

Lance has none: a flipped bit in a data file gives other rows, silently. A list is a file named by its own
sha256, which the catalog's entry names. Lance never rewrites a file, so only new ones are hashed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.storage.engine import engine_faults
from moe_retrieval.storage.tables.table_files import TableFile, files_of, manifests

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moe_retrieval.storage.places.place import Place

FOLDER = "catalog/sums"


class FileSum(NamedTuple):
    """What a file was when it was written."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Sums:
    """The files of one version of one table, by their names in the store."""

    table: str
    version: int
    files: Mapping[str, FileSum]


def name_of(sha256: str) -> str:
    """The list's own name in the store."""
    return f"{FOLDER}/{sha256}.json"


def record(place: Place, *, table: str, dataset: Any, previous: str) -> str:
    """Store the checksums of what `dataset` reads; the sha256 of that list comes back.

    `previous` is that of a list of the same table, whose files are not read again ("" for none).

    Raises:
        StoreCorruptError: a file of the table is missing or torn.
    """
    known = _known(place, table, previous)
    with engine_faults(f"list the files of table {table}"):
        version = int(dataset.version)
        wanted = [*files_of(place, table, dataset), TableFile(_manifest(place, table, version))]
    files = {one.name: known.get(one.name) or _hashed(place, table, one) for one in wanted}
    content = {"table": table, "version": version, "files": files}
    data = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    sha256 = hashlib.sha256(data).hexdigest()
    _store(place, sha256, data)
    return sha256


def read(place: Place, sha256: str) -> Sums:
    """A list as it was written.

    Raises:
        StoreCorruptError: it is missing or damaged.
    """
    name = name_of(sha256)
    try:
        data = place.read(name)
    except FileNotFoundError as error:
        raise _damaged(name, "is missing") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _damaged(name, "is damaged: its content does not match its name")
    content = json.loads(data)
    files = {name: FileSum(*values) for name, values in content["files"].items()}
    return Sums(content["table"], content["version"], files)


def verify(place: Place, table: str, recorded: str, names: Iterable[str]) -> None:
    """Compare files of a table with the list `recorded`; what it does not name is passed over.

    Raises:
        StoreCorruptError: a file is missing, or not as it was written.
    """
    known = _known(place, table, recorded)
    for name in names:
        if (one := known.get(name)) and _hashed(place, table, TableFile(name, one.size)) != one:
            raise _damaged(name, "is damaged: its bytes are not those that were written")


def verify_rows(place: Place, table: str, recorded: str) -> None:
    """As `verify`, for all files that hold the rows of a table version: before they are copied to another.

    Raises:
        StoreCorruptError: a file is missing, or not as it was written.
    """
    listed = _known(place, table, recorded)
    verify(place, table, recorded, [name for name in listed if "/data/" in name or "/_deletions/" in name])


def are_intact(place: Place, table: str, recorded: str, folders: tuple[str, ...]) -> bool:
    """Whether the files that the list `recorded` has in some folders are as they were written."""
    listed = _known(place, table, recorded)
    try:
        verify(place, table, recorded, [name for name in listed if name.startswith(folders)])
    except StoreCorruptError:
        return False
    return True


def _store(place: Place, sha256: str, data: bytes) -> None:
    if place.put_if_absent(name_of(sha256), data):
        return
    try:
        read(place, sha256)
    except StoreCorruptError:
        place.replace(name_of(sha256), data)  # the same list was stored before, and rots


def _known(place: Place, table: str, previous: str) -> dict[str, FileSum]:
    """The checksums of a table's older files. Where the last list is lost, those of all others count."""
    if not previous:
        return {}
    with contextlib.suppress(StoreCorruptError):
        return dict(read(place, previous).files)
    known: dict[str, FileSum] = {}
    for name in place.names(FOLDER):
        with contextlib.suppress(StoreCorruptError):
            found = read(place, name.removesuffix(".json"))
            known |= found.files if found.table == table else {}
    return known


def _manifest(place: Place, table: str, version: int) -> str:
    found = next((name for number, name in manifests(place, table) if number == version), None)
    if found is None:
        raise _damaged(f"the manifest of version {version} of table {table}", "is missing")
    return found


def _hashed(place: Place, table: str, file: TableFile) -> FileSum:
    try:
        size = place.size(file.name)
    except FileNotFoundError as error:
        raise _damaged(file.name, f"is missing; table {table} needs it") from error
    if file.size not in (None, size):
        raise _damaged(file.name, f"is damaged: it has {size} bytes of {file.size}")
    return FileSum(size, place.sha256(file.name))


def _damaged(name: str, what: str) -> StoreCorruptError:
    return StoreCorruptError(f"{name} {what}", hint="moeret doctor --scrub says what else is damaged")
