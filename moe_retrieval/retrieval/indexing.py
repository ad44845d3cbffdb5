"""The search structures of a store: which engine a domain gets, how it is built, and opened."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.storage.index import build_index, faiss_installed, open_index, wanted_engine
from moe_retrieval.storage.indexes.lance_build import ensure_lance_index
from moe_retrieval.storage.indexes.protocol import LANCE
from moe_retrieval.storage.indexes.shared import bring_indexes, share_indexes
from moe_retrieval.storage.places.folder import Folder
from moe_retrieval.types import IndexEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.indexes.protocol import VectorIndex
    from moe_retrieval.storage.places.place import Place
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table
    from moe_retrieval.storage.tables.view import TableView


@dataclass(frozen=True, slots=True)
class Indexing:
    """What is asked of search structures.

    `recall`: recall@10 that an approximate one must reach. `memory`: bytes that a search may walk through;
    0: any. `engine`: what searches; `auto` is FAISS where one of its kinds fits.
    """

    recall: float = 0.98
    memory: int = 0
    engine: IndexEngine = IndexEngine.AUTO

    def engine_for(self, place: Place, *, rows: int, dim: int) -> str:
        """The engine to ask for: `lance` where no kind of FAISS fits, else as set.

        FAISS files of a store in a bucket must have room on this machine.
        """
        room = None if isinstance(place, Folder) else shutil.disk_usage(_existing(place)).free
        engine = str(self.engine)
        chosen = wanted_engine(rows, dim=dim, engine=engine, memory=self.memory, room=room)
        return LANCE if chosen == LANCE and faiss_installed() else engine


def tidy(store: Store, table: Table, *, indexing: Indexing) -> None:
    """Join fragments and bring a table's own indexes up to date, before its version is recorded."""
    table.maintain()
    engine = indexing.engine_for(store.place, rows=table.rows, dim=table.dim)
    if wanted_engine(table.rows, dim=table.dim, engine=engine, memory=indexing.memory) == LANCE:
        ensure_lance_index(store.place, table.name, recall=indexing.recall)


def build_indexes(store: Store, entries: Mapping[str, DomainEntry], *, indexing: Indexing) -> None:
    """A search structure for every domain whose rows changed since its last one."""
    for entry in entries.values():
        if not entry.rows:
            continue
        view = store.view(entry)
        bring_indexes(store.place, entry)
        build_index(
            view,
            folder=store.indexes_dir,
            entry=entry,
            recall=indexing.recall,
            engine=indexing.engine_for(store.place, rows=view.rows, dim=view.dim),
            memory=indexing.memory,
        )
        share_indexes(store.place, entry)


def open_search(
    store: Store, entry: DomainEntry, view: TableView, *, indexing: Indexing, notify: Callable[[str], None]
) -> VectorIndex:
    """What searches a domain's vectors. `notify` hears of anything that is worse than it should be."""
    engine = indexing.engine_for(store.place, rows=view.rows, dim=view.dim)
    if engine != LANCE:
        bring_indexes(store.place, entry)
    return open_index(
        view,
        folder=store.indexes_dir,
        entry=entry,
        notify=notify,
        engine=engine,
        memory=indexing.memory,
    )


def _existing(place: Place) -> str:
    return str(next(one for one in (place.local, *place.local.parents) if one.exists()))
