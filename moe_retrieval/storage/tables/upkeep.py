"""What is looked at before a table is tidied: damage must not be copied into new files, and so be hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import StoreError
from moe_retrieval.storage.engine import engine_faults
from moe_retrieval.storage.tables import sums
from moe_retrieval.storage.tables.rows import CONTENT
from moe_retrieval.storage.tables.table_files import data_files, folder_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.storage.places.place import Place


def refuse_damaged(
    place: Place, table: str, dataset: Any, *, recorded: str, options: Mapping[str, int]
) -> None:
    """Compare the files that a compaction with these options would copy with their recorded checksums.

    Raises:
        StoreCorruptError: a file is not as it was written; it is named.
    """
    from lance.optimize import Compaction

    with engine_faults(f"tidy table {table}"):
        plan = Compaction.plan(dataset, dict(options))
        copied = {fragment.id for task in plan.tasks for fragment in task.fragments}
        fragments = [one for one in dataset.get_fragments() if one.fragment_id in copied]
    names = [file.name for one in fragments for file in data_files(table, one)]
    sums.verify(place, table, recorded, names)


def text_index_is_whole(place: Place, table: str, dataset: Any, *, recorded: str) -> bool:
    """Whether the text index opens, and its files are as they were written: they go into the next one."""
    try:
        with engine_faults(f"look at the text index of table {table}"):
            found = [index for index in dataset.describe_indices() if CONTENT in index.field_names]
            uuids = {segment.uuid for index in found for segment in index.segments}
            for index in found:
                dataset.stats.index_stats(index.name)
    except StoreError:
        return False
    folders = tuple(f"{folder_of(table)}/_indices/{uuid}/" for uuid in uuids)
    return bool(found) and sums.are_intact(place, table, recorded, folders)
