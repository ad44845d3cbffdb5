"""What Lance wrote, held against what it says it wrote.

It does not hear of the failure of a file's last write (a full disk, a broken one), and commits the file cut
short. But a version records how long its data files and indexes were to be, and a deletion file of Arrow ends
with a mark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moe_retrieval.storage.durability import cut_short
from moe_retrieval.storage.engine import engine_faults
from moe_retrieval.storage.tables.table_files import files_of, folder_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from moe_retrieval.storage.places.place import Place
    from moe_retrieval.storage.tables.table_files import TableFile

_ARROW, _ARROW_ENDS = ".arrow", b"ARROW1"


def names_of(place: Place, table: str, dataset: Any) -> frozenset[str]:
    """The files that a version is read from, by their names in the store."""
    with engine_faults(f"list the files of table {table}"):
        return frozenset(file.name for file in files_of(place, table, dataset))


def refuse_torn(place: Place, table: str, dataset: Any, *, known: Collection[str], doing: str) -> None:
    """Look at the files of a version that are not `known` from before it was written.

    Raises:
        StoreError: one is shorter than the version says. The version is not to be published.
    """
    with engine_faults(f"list the files of table {table}"):
        files = [file for file in files_of(place, table, dataset) if file.name not in known]
        torn = torn_files(place, table, dataset, files)
    if torn:
        raise cut_short(place.local / torn[0], doing=doing)


def torn_files(place: Place, table: str, dataset: Any, files: Sequence[TableFile]) -> list[str]:
    """Those of a version's files, and folders of its indexes, that are not as long as the version says."""
    segments = [segment for index in dataset.describe_indices() for segment in index.segments]
    torn = [file.name for file in files if not _whole(place, file)]
    for segment in segments:
        inside = f"{folder_of(table)}/_indices/{segment.uuid}"
        mine = [file.name for file in files if file.name.startswith(f"{inside}/")]
        if mine and segment.size_bytes and sum(map(place.size, mine)) != segment.size_bytes:
            torn.append(inside)
    return torn


def _whole(place: Place, file: TableFile) -> bool:
    if file.name.endswith(_ARROW):
        return place.read(file.name).endswith(_ARROW_ENDS)
    size = place.size(file.name)
    return size > 0 if file.size is None else size == file.size
