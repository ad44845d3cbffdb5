"""One protocol for vector search, and the choice of its engine: FAISS where it fits, else LanceDB.

An index is derived from one table version and may be deleted at any time. Opening one never serves rows
that the generation does not hold, and never misses rows that it does.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from moe_retrieval.errors import StoreError
from moe_retrieval.storage.engine import faiss
from moe_retrieval.storage.indexes import faiss_choice, sidecar
from moe_retrieval.storage.indexes.lance_build import setting_of
from moe_retrieval.storage.indexes.lance_index import LanceIndex
from moe_retrieval.storage.indexes.protocol import AUTO, FAISS, LANCE, RECALL
from moe_retrieval.storage.indexes.protocol import IndexInfo as IndexInfo
from moe_retrieval.storage.indexes.protocol import VectorIndex as VectorIndex

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.indexes.faiss_build import Draft
    from moe_retrieval.storage.indexes.faiss_index import FaissIndex
    from moe_retrieval.storage.indexes.sidecar import Sidecar
    from moe_retrieval.storage.tables.view import TableView

_NO_FAISS = "FAISS is not installed, searches are slower; pip install 'moeret[cpu]'"
_LEFT_ROWS = 1_000
_LEFT_SHARE = 0.02
"""So few rows that an index lacks are searched exactly beside it, and cost less than a refresh."""
_REBUILD_ON_OPEN = 200_000
"""Larger indexes take minutes to build: a query does not wait for them."""


def wanted_engine(
    rows: int, *, dim: int, engine: str = AUTO, memory: int = 0, room: int | None = None
) -> str:
    """`faiss` or `lance`: with `auto` FAISS, unless it is missing or none of its kinds fits.

    A kind fits whose searches walk through at most `memory` bytes (0: any), and whose file, where it must be
    copied to this machine, takes at most `room` bytes.
    """
    if engine != AUTO:
        return engine
    kinds = faiss_choice.candidates(rows, dim=dim, memory=memory)
    fits = not rows or any(room is None or kind.size(rows, dim) <= room for kind in kinds)
    return FAISS if faiss_installed() and fits else LANCE


def open_index(
    view: TableView,
    *,
    folder: Path,
    entry: DomainEntry,
    notify: Callable[[str], None],
    engine: str = AUTO,
    memory: int = 0,
) -> VectorIndex:
    """What searches this view best. `notify` hears, in one sentence, of anything worse than it should be."""
    if wanted_engine(view.rows, dim=view.dim, engine=engine, memory=memory) == LANCE:
        return _by_lance(view, _NO_FAISS if engine == AUTO and not faiss_installed() else "", notify)
    if not faiss_installed():
        return _by_lance(view, _NO_FAISS, notify)
    try:
        if (found := _of_content(view, folder, entry)) is not None:
            return found
    except StoreError as error:
        notify(f"the index of table {entry.table} is rebuilt: {error.message}")
        return _rebuilt(view, folder, entry, notify, memory=memory)
    if _is_small(view):
        return _rebuilt(view, folder, entry, notify, memory=memory)
    return _from_older(view, folder, entry) or _by_lance(
        view, f"table {entry.table} has no index of its {view.rows} rows; moeret index builds it", notify
    )


def build_index(
    view: TableView,
    *,
    folder: Path,
    entry: DomainEntry,
    recall: float = RECALL,
    engine: str = AUTO,
    memory: int = 0,
) -> IndexInfo:
    """Make sure that the view can be searched fast, and say how it is.

    An index that lacks few rows is left alone, they are searched exactly; one that lacks more is refreshed by
    what changed; it is built anew where much changed, or where another kind is called for.

    Raises:
        UsageError: FAISS was asked for, and none of its kinds fits in `memory` bytes.
    """
    if wanted_engine(view.rows, dim=view.dim, engine=engine, memory=memory) == LANCE or not faiss_installed():
        return _lance_info(view, "" if faiss_installed() or engine == LANCE else _NO_FAISS)
    from moe_retrieval.storage.indexes import faiss_build

    newest = next(iter(_usable(folder, entry)), None)
    if newest is not None and not _suits(newest, view, recall=recall, memory=memory):
        newest = None
    if newest is not None and (sound := _sound(view, folder, newest, entry)) is not None:
        return sound
    draft = _renewed(view, folder, newest, entry, recall=recall, memory=memory)
    done = faiss_build.store(folder, draft)
    low = done.recall_at_10 is not None and done.recall_at_10 < recall
    return IndexInfo.of(done, notice=f"recall@10 is {done.recall_at_10}, below {recall}" if low else "")


def index_info(folder: Path, entry: DomainEntry, *, view: TableView | None = None) -> IndexInfo | None:
    """What index there is for a catalog entry, without opening it; None for none.

    With the entry's `view`, LanceDB's own index is told of too, where there is no FAISS index.
    """
    newest = next(iter(_usable(folder, entry) if faiss_installed() else []), None)
    if newest is not None:
        return IndexInfo.of(newest, tail=max(0, entry.rows - newest.rows))
    own = None if view is None else _lance_info(view, "")
    return own if own is not None and own.parameters else None


def faiss_installed() -> bool:
    return importlib.util.find_spec("faiss") is not None


def _usable(folder: Path, entry: DomainEntry) -> list[Sidecar]:
    """Side-cars of this table, of this encoder and this FAISS: the wanted content first, then the newest."""
    wanted = (entry.table, entry.fingerprint, str(faiss().__version__), sidecar.LAYOUT)
    mine = [
        one
        for one in sidecar.read_all(folder)
        if (one.table, one.fingerprint, one.library, one.layout) == wanted
    ]
    return sorted(mine, key=lambda one: one.digest != entry.digest)


def _loaded(view: TableView, folder: Path, one: Sidecar, entry: DomainEntry) -> FaissIndex:
    from moe_retrieval.storage.indexes.faiss_gpu import on_gpu
    from moe_retrieval.storage.indexes.faiss_index import FaissIndex, load

    index, slots = load(folder, one)
    if (one.table, one.version, one.digest) != (entry.table, entry.version, entry.digest):
        slots = slots.moved(*view.key_vh())
    resident = on_gpu(index, factory=one.factory, setting=one.parameters)
    return FaissIndex(
        index, view=view, slots=slots, info=IndexInfo.of(one, tail=len(slots.tail)), resident=resident
    )


def _of_content(view: TableView, folder: Path, entry: DomainEntry) -> FaissIndex | None:
    """The index of exactly the wanted content; None for none.

    One that does not fit its side-car is tried again if the side-car is another by now: a writer came in.
    """
    tried: list[Sidecar] = []
    while True:
        one = next((one for one in _usable(folder, entry) if one.digest == entry.digest), None)
        if one is None:
            return None
        try:
            return _loaded(view, folder, one, entry)
        except StoreError:
            if one in tried:
                raise
            tried.append(one)


def _from_older(view: TableView, folder: Path, entry: DomainEntry) -> FaissIndex | None:
    """An index of an earlier content, if what came since is little enough to be searched exactly."""
    from moe_retrieval.storage.indexes.faiss_index import MAX_TAIL

    for one in _usable(folder, entry):
        if view.rows - one.rows > MAX_TAIL:
            continue
        try:
            found = _loaded(view, folder, one, entry)
        except StoreError:
            continue
        if found.info.tail <= MAX_TAIL:
            return found
    return None


def _rebuilt(
    view: TableView, folder: Path, entry: DomainEntry, notify: Callable[[str], None], *, memory: int
) -> VectorIndex:
    """A new index, kept for the next time if the folder may be written."""
    from moe_retrieval.storage.indexes import faiss_build
    from moe_retrieval.storage.indexes.faiss_index import FaissIndex

    if view.rows > _REBUILD_ON_OPEN:
        return _by_lance(view, f"table {entry.table} has no sound index; moeret index builds it", notify)
    draft = faiss_build.build(view, entry=entry, recall=RECALL, memory=memory)
    one, notice = draft.about, ""
    try:
        one = faiss_build.store(folder, draft)
    except StoreError as error:
        notice = f"the index is kept in memory only: {error.message}"
    return FaissIndex(draft.index, view=view, slots=draft.slots, info=IndexInfo.of(one, notice=notice))


def _suits(one: Sidecar, view: TableView, *, recall: float, memory: int) -> bool:
    """Whether an index is of a kind that would be built now, and as good as could be had."""
    kinds = {kind.family for kind in faiss_choice.candidates(view.rows, dim=view.dim, memory=memory)}
    reached = one.recall_at_10 or 0.0
    return faiss_choice.Kind(one.factory).family in kinds and (reached >= recall or one.wanted >= recall)


def _sound(view: TableView, folder: Path, one: Sidecar, entry: DomainEntry) -> IndexInfo | None:
    """What there is, if it is whole and covers the view well enough to be left alone."""
    from moe_retrieval.storage.indexes.faiss_build import repin

    if one.digest != entry.digest and _is_small(view):
        return None
    try:
        info = _loaded(view, folder, one, entry).info
        if one.digest == entry.digest and one.version != entry.version:
            repin(folder, one, view)
    except StoreError:
        return None
    missing = info.tail + max(0, one.rows + info.tail - view.rows)  # rows to add, and rows that went
    return info if missing <= min(_LEFT_ROWS, _LEFT_SHARE * view.rows) else None


def _renewed(
    view: TableView,
    folder: Path,
    one: Sidecar | None,
    entry: DomainEntry,
    *,
    recall: float,
    memory: int,
) -> Draft:
    """An index of exactly this view: an earlier one refreshed, or a new one."""
    from moe_retrieval.storage.indexes import faiss_build
    from moe_retrieval.storage.indexes.faiss_refresh import refreshed

    if one is not None and one.digest != entry.digest:
        try:
            found = refreshed(view, folder, one, entry, recall=recall)
        except StoreError:
            found = None  # a damaged one is no start
        if found is not None:
            return found
    return faiss_build.build(view, entry=entry, recall=recall, memory=memory)


def _is_small(view: TableView) -> bool:
    return view.rows < faiss_choice.FLAT_ROWS


def _by_lance(view: TableView, notice: str, notify: Callable[[str], None]) -> LanceIndex:
    info = _lance_info(view, notice)
    if info.notice:
        notify(info.notice)
    return LanceIndex(view, info=info, parameters=info.parameters)


def _lance_info(view: TableView, notice: str) -> IndexInfo:
    """The table's own index, if it has one, else exact search."""
    known = setting_of(view.dataset)
    if known is None:
        return IndexInfo(engine=LANCE, factory="exact", rows=view.rows, recall_at_10=1.0, notice=notice)
    return IndexInfo(
        engine=LANCE,
        factory=known.kind,
        rows=view.rows,
        recall_at_10=known.recall_at_10,
        parameters=known.parameters,
        notice=notice,
        ms=known.ms,
    )
