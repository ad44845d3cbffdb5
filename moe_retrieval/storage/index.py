"""One protocol for vector search, and the choice of its engine: FAISS where there is an index, else LanceDB.

An index is derived from one table version and may be deleted at any time. Opening one never serves rows
that the generation does not hold, and never misses rows that it does.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from moe_retrieval.errors import StoreError
from moe_retrieval.storage import sidecar
from moe_retrieval.storage.engine import faiss
from moe_retrieval.storage.lance_index import LanceIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.faiss_index import FaissIndex
    from moe_retrieval.storage.found import Found
    from moe_retrieval.storage.sidecar import Sidecar
    from moe_retrieval.storage.view import TableView

_NO_FAISS = "FAISS is not installed, searches are slower; pip install 'moeret[cpu]'"
_REBUILD_ROWS = 5_000
_REBUILD_SHARE = 0.1
_REBUILD_ON_OPEN = 200_000
"""Larger indexes take minutes to build: a query does not wait for them."""


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What answers vector searches of a domain. `tail`: rows it does not hold, searched exactly."""

    engine: str
    factory: str
    rows: int
    tail: int = 0
    recall_at_10: float | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    built: str = ""
    notice: str = ""


class VectorIndex(Protocol):
    """Search by cosine over one table version."""

    info: IndexInfo

    def search(self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None) -> list[Found]:
        """The k best rows per query, float32 (n, dim); `allowed`: int64 keys to choose from."""
        ...

    def offsets(self, keys: np.ndarray) -> np.ndarray | None:
        """Row offsets of keys in the version searched, a hint for fetching them; None if unknown."""
        ...


def open_index(
    view: TableView, *, folder: Path, entry: DomainEntry, notify: Callable[[str], None]
) -> VectorIndex:
    """What searches this view best. `notify` hears, in one sentence, of anything worse than it should be."""
    if not faiss_installed():
        return _by_lance(view, _NO_FAISS, notify)
    mine = _usable(folder, entry)
    for one in mine:
        if one.digest == entry.digest:
            try:
                return _loaded(view, folder, one, entry)
            except StoreError as error:
                notify(f"the index of table {entry.table} is rebuilt: {error.message}")
                return _rebuilt(view, folder, entry, notify)
    if view.rows < _flat_rows():
        return _rebuilt(view, folder, entry, notify)
    return _from_older(view, folder, mine, entry) or _by_lance(
        view, f"table {entry.table} has no index of its {view.rows} rows; moeret index builds it", notify
    )


def build_index(view: TableView, *, folder: Path, entry: DomainEntry, recall: float = 0.98) -> IndexInfo:
    """Make sure that the view can be searched fast, and say how it is.

    Nothing is built where a sound index covers nearly all rows: the few others are searched exactly, and
    building anew for each small change would cost more than it saves.
    """
    if not faiss_installed():
        return _lance_info(view, _NO_FAISS)
    from moe_retrieval.storage import faiss_build

    if (sound := _sound(view, folder, entry)) is not None:
        return sound
    index, draft = faiss_build.build(view, entry=entry, recall=recall)
    done = faiss_build.store(folder, index, draft, view=view)
    low = done.recall_at_10 is not None and done.recall_at_10 < recall
    return _info(done, notice=f"recall@10 is {done.recall_at_10}, below {recall}" if low else "")


def index_info(folder: Path, entry: DomainEntry) -> IndexInfo | None:
    """What index there is for a catalog entry, without opening it; None for none."""
    newest = next(iter(_usable(folder, entry) if faiss_installed() else []), None)
    return None if newest is None else _info(newest, tail=max(0, entry.rows - newest.rows))


def faiss_installed() -> bool:
    return importlib.util.find_spec("faiss") is not None


def _usable(folder: Path, entry: DomainEntry) -> list[Sidecar]:
    """Side-cars of this table, of this encoder and this FAISS: the wanted content first, then the newest."""
    mine = [
        one
        for one in sidecar.read_all(folder)
        if (one.table, one.fingerprint, one.library)
        == (entry.table, entry.fingerprint, str(faiss().__version__))
    ]
    return sorted(mine, key=lambda one: one.digest != entry.digest)


def _loaded(view: TableView, folder: Path, one: Sidecar, entry: DomainEntry) -> FaissIndex:
    from moe_retrieval.storage.faiss_index import FaissIndex, align, load

    index, keys, hashes = load(folder, one)
    same = (one.table, one.version, one.digest) == (entry.table, entry.version, entry.digest)
    alignment = align(view, keys=keys, hashes=hashes, same=same)
    return FaissIndex(index, view=view, alignment=alignment, info=_info(one, tail=len(alignment.tail)))


def _from_older(view: TableView, folder: Path, mine: list[Sidecar], entry: DomainEntry) -> FaissIndex | None:
    """An index of an earlier content, if what came since is little enough to be searched exactly."""
    from moe_retrieval.storage.faiss_index import MAX_TAIL

    for one in mine:
        if view.rows - one.rows > MAX_TAIL:
            continue
        try:
            found = _loaded(view, folder, one, entry)
        except StoreError:
            continue
        if found.info.tail <= MAX_TAIL:
            return found
    return None


def _rebuilt(view: TableView, folder: Path, entry: DomainEntry, notify: Callable[[str], None]) -> VectorIndex:
    """A new index, kept for the next time if the folder may be written."""
    from moe_retrieval.storage import faiss_build
    from moe_retrieval.storage.faiss_index import FaissIndex, align

    if view.rows > _REBUILD_ON_OPEN:
        return _by_lance(view, f"table {entry.table} has no sound index; moeret index builds it", notify)
    index, one = faiss_build.build(view, entry=entry, recall=0.98)
    notice = ""
    try:
        one = faiss_build.store(folder, index, one, view=view)
    except StoreError as error:
        notice = f"the index is kept in memory only: {error.message}"
    keys, hashes = view.key_vh()
    alignment = align(view, keys=keys, hashes=hashes, same=True)
    return FaissIndex(index, view=view, alignment=alignment, info=_info(one, notice=notice))


def _sound(view: TableView, folder: Path, entry: DomainEntry) -> IndexInfo | None:
    """What there is, if it is whole and covers the view well enough to be left alone."""
    for one in _usable(folder, entry)[:1]:
        if one.digest != entry.digest and view.rows < _flat_rows():
            return None
        try:
            info = _loaded(view, folder, one, entry).info
        except StoreError:
            return None
        missing = info.tail + max(0, one.rows + info.tail - view.rows)  # rows to add, and rows that went
        return info if missing <= min(_REBUILD_ROWS, _REBUILD_SHARE * view.rows) else None
    return None


def _flat_rows() -> int:
    from moe_retrieval.storage.faiss_build import FLAT_ROWS

    return FLAT_ROWS


def _by_lance(view: TableView, notice: str, notify: Callable[[str], None]) -> LanceIndex:
    notify(notice)
    return LanceIndex(view, info=_lance_info(view, notice))


def _lance_info(view: TableView, notice: str) -> IndexInfo:
    return IndexInfo(engine="lance", factory="exact", rows=view.rows, recall_at_10=1.0, notice=notice)


def _info(one: Sidecar, *, tail: int = 0, notice: str = "") -> IndexInfo:
    return IndexInfo(
        engine="faiss",
        factory=one.factory,
        rows=one.rows,
        tail=tail,
        recall_at_10=one.recall_at_10,
        parameters=dict(one.parameters),
        bytes=one.bytes,
        built=one.built,
        notice=notice,
    )
