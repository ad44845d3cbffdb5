"""Which files one version of a Lance table is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from moe_retrieval.storage.places.place import TABLES

if TYPE_CHECKING:
    from moe_retrieval.storage.places.place import Place

_TOP = (1 << 64) - 1
_SUFFIX = ".manifest"


class TableFile(NamedTuple):
    """A file of a table: its name in the store, and its size where the manifest records it."""

    name: str
    size: int | None = None


def folder_of(table: str) -> str:
    """The folder of a table, relative to the store."""
    return f"{TABLES}/{table}.lance"


def manifests(place: Place, table: str) -> list[tuple[int, str]]:
    """Version and name in the store of each manifest of a table, newest first."""
    folder = f"{folder_of(table)}/_versions"
    stems = [name.removesuffix(_SUFFIX) for name in place.names(folder) if name.endswith(_SUFFIX)]
    # Lance names them 2^64 - 1 - version, so that a listing begins with the newest; old tables count upwards.
    numbered = [(_TOP - int(one) if len(one) == 20 else int(one), one) for one in stems if one.isdigit()]
    return [(version, f"{folder}/{stem}{_SUFFIX}") for version, stem in sorted(numbered, reverse=True)]


def files_of(place: Place, table: str, dataset: Any) -> list[TableFile]:
    """The files that `dataset` reads its rows and indexes from, without its manifest.

    Not among them: `_transactions` and the hint at the latest version. No reader of a version needs them.
    """
    folder = folder_of(table)
    files: list[TableFile] = []
    for fragment in dataset.get_fragments():
        files += data_files(table, fragment)
    for segment in (segment for index in dataset.describe_indices() for segment in index.segments):
        inside = f"{folder}/_indices/{segment.uuid}"
        files += [TableFile(f"{inside}/{name}") for name in place.names(inside)]
    return files


def data_files(table: str, fragment: Any) -> list[TableFile]:
    """The files of one fragment: its rows, and which of them are deleted."""
    folder = folder_of(table)
    files = [TableFile(f"{folder}/data/{one.path}", one.file_size_bytes) for one in fragment.data_files()]
    removed = fragment.deletion_file()
    return [*files, TableFile(f"{folder}/{removed}")] if removed else files
