"""The FAISS files of a store in a bucket: brought here before they are opened, shared once they are built.

They are derived: one that is missing or damaged there is built again from the rows, so nothing here fails for
lack of one. A store in a folder has them in place already.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.storage.indexes import sidecar
from moe_retrieval.storage.places.folder import Folder

if TYPE_CHECKING:
    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.places.place import Place

_FOLDER = "indexes"
_DESCRIPTION = ".json"


def bring_descriptions(place: Place) -> list[str]:
    """Bring what says which index files there are; the names of all come back, those here included."""
    if isinstance(place, Folder):
        return []
    names = place.names(_FOLDER)
    for name in names:
        if name.endswith(_DESCRIPTION):
            _bring(place, name)
    return names


def bring_indexes(place: Place, entry: DomainEntry) -> None:
    """Bring the index files of a catalog entry: of its very content, else the newest of its table."""
    names = bring_descriptions(place)
    mine = (
        [one for one in sidecar.read_all(place.local / _FOLDER) if one.table == entry.table] if names else []
    )
    for one in [one for one in mine if one.digest == entry.digest] or mine[:1]:
        for name in names:
            if _stem(name) == one.name:
                _bring(place, name)


def share_indexes(place: Place, entry: DomainEntry) -> None:
    """Share the index files of an entry's table, and drop the shared ones that were superseded here.

    Under the writer lease, and after `bring_indexes`: what is described there and not here was superseded.
    """
    if isinstance(place, Folder):
        return
    folder = place.local / _FOLDER
    for one in sidecar.read_all(folder):
        if one.table == entry.table:
            files = [path.name for path in folder.glob(f"{one.name}.*")]
            for name in sorted(files, key=lambda name: name.endswith(_DESCRIPTION)):  # the description last
                place.share(f"{_FOLDER}/{name}")
    here = {path.stem for path in folder.glob(f"*{_DESCRIPTION}")}
    gone = [name for name in place.names(_FOLDER) if _stem(name) not in here]
    for name in sorted(gone, key=lambda name: not name.endswith(_DESCRIPTION)):  # the description first
        place.remove(f"{_FOLDER}/{name}")


def _bring(place: Place, name: str) -> None:
    with contextlib.suppress(StoreCorruptError):
        place.fetch(f"{_FOLDER}/{name}")


def _stem(name: str) -> str:
    return name.partition(".")[0]
