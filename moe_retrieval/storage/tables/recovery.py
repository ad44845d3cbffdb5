"""After a power cut: take back the unacknowledged versions of a table that did not reach the disk whole.

Lance does not fall back from a damaged newest manifest. A version the catalog records was synced before it
was acknowledged, so only later ones can be torn; they are renamed, never deleted, from the newest down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_retrieval.errors import StoreError
from moe_retrieval.storage.engine import engine_faults
from moe_retrieval.storage.tables.table_files import files_of, manifests
from moe_retrieval.storage.tables.torn import torn_files

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.storage.places.folder import Folder

_MARKS = {".lance": b"LANC", ".arrow": b"ARROW1"}
"""What files end with, by their suffix."""


def set_torn_versions_aside(folder: Folder, table: str, *, acknowledged: int) -> tuple[int, ...]:
    """Rename the manifests of torn versions above `acknowledged`; their numbers come back, newest first."""
    torn: list[int] = []
    for version, manifest in manifests(folder, table):
        if version <= acknowledged or _whole(folder, table, version):
            break
        folder.set_aside(manifest)
        torn.append(version)
    return tuple(torn)


def _whole(folder: Folder, table: str, version: int) -> bool:
    try:
        with engine_faults(f"read table {table} at version {version}"):
            dataset = folder.dataset(table, version=version)
            files = files_of(folder, table, dataset)
            torn = torn_files(folder, table, dataset, files)
            return not torn and all(_ends_well(folder.local / file.name) for file in files)
    except StoreError:
        return False


def _ends_well(file: Path) -> bool:
    """Whether a file is not empty and ends as files of its kind do: a cut may leave one of zeros."""
    found, mark = file.stat().st_size, _MARKS.get(file.suffix, b"")
    with file.open("rb") as stream:
        stream.seek(max(0, found - len(mark)))
        return found > 0 and stream.read().endswith(mark)
