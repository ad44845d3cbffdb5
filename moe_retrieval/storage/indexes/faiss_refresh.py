"""Bring a FAISS index up to a newer version of its table, without building it anew.

What changed is told by (key, vector hash) alone, so it holds after restores and overwrites too. The index on
disk stays as it is: a copy in memory is changed, and stored under the name of its new content.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.storage.engine import engine_faults, faiss
from moe_retrieval.storage.indexes.faiss_build import Draft, tuned
from moe_retrieval.storage.indexes.faiss_choice import Kind
from moe_retrieval.storage.indexes.faiss_index import load
from moe_retrieval.storage.indexes.slots import NO_KEY, Slots
from moe_retrieval.storage.indexes.trial import Trial

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.indexes.sidecar import Sidecar
    from moe_retrieval.storage.tables.view import TableView

MOST_ADDED = 0.3
"""Share of the rows that may have come by refreshes: lists and codes were made for the others."""
MOST_DEAD = 0.2
"""Share of dead positions in an index that no row can be taken out of."""

_MEASURED_EACH_TIME = 200_000
_UNMEASURED = 0.02
_BLOCK = 65_536


def refreshed(
    view: TableView, folder: Path, one: Sidecar, entry: DomainEntry, *, recall: float
) -> Draft | None:
    """The index of a side-car brought up to a view; None where so much changed that it is to be built anew.

    Raises:
        StoreCorruptError: its files are not as they were written.
    """
    index, before = load(folder, one, mapped=False)
    slots = before.moved(*view.key_vh())
    kind, came = Kind(one.factory), len(slots.tail)
    if _too_much(kind, one, slots, rows=view.rows):
        return None
    with engine_faults(f"refresh the index of table {view.name}"):
        slots = _with_new(index, kind, _without_gone(index, kind, slots), view)
    went = int(np.count_nonzero(before.offsets >= 0)) - (view.rows - came)
    about = replace(
        one,
        table=view.name,
        version=view.version,
        digest=entry.digest,
        rows=view.rows,
        positions=len(slots.keys),
        added=one.added + came,
        unmeasured=one.unmeasured + came + max(0, went),
        built=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return _measured(Draft(index, slots, about), view, recall=recall)


def _too_much(kind: Kind, one: Sidecar, slots: Slots, *, rows: int) -> bool:
    if one.added + len(slots.tail) > MOST_ADDED * rows:
        return True
    dead = int(np.count_nonzero(slots.offsets < 0))
    return not kind.removable and dead > MOST_DEAD * (len(slots.keys) + len(slots.tail))


def _without_gone(index: Any, kind: Kind, slots: Slots) -> Slots:
    """Take dead positions out where that can be done: flat ones close up, lists keep the others' numbers."""
    dead = slots.offsets < 0
    if not kind.removable or not dead.any():
        return slots
    bits = np.packbits(dead, bitorder="little")
    index.remove_ids(faiss().IDSelectorBitmap(bits))
    if kind.lists:
        return replace(slots, keys=np.where(dead, NO_KEY, slots.keys))
    live = ~dead
    return replace(slots, keys=slots.keys[live], hashes=slots.hashes[live], offsets=slots.offsets[live])


def _with_new(index: Any, kind: Kind, slots: Slots, view: TableView) -> Slots:
    """Add the rows of the tail: in lists at numbers that are free again first, else at the end."""
    held, came = len(slots.keys), len(slots.tail)
    free = np.flatnonzero(slots.keys == NO_KEY)[:came] if kind.lists and not kind.refined else slots.tail[:0]
    at = np.concatenate([free, held + np.arange(came - len(free))])
    for start in range(0, came, _BLOCK):
        part = slice(start, start + _BLOCK)
        vectors = np.ascontiguousarray(view.vectors(slots.tail[part]))
        if kind.lists and not kind.refined:
            index.add_with_ids(vectors, at[part])
        else:
            index.add(vectors)
    return _placed(slots, at, view)


def _placed(slots: Slots, at: np.ndarray, view: TableView) -> Slots:
    """The slots with the rows of the tail at positions `at`."""
    if not len(at):
        return slots
    fresh = view.take(slots.tail, columns=["key", "vh"])
    room = max(len(slots.keys), int(at.max()) + 1) - len(slots.keys)
    arrays = {
        "keys": (slots.keys, fresh["key"].to_numpy()),
        "hashes": (slots.hashes, fresh["vh"].to_numpy()),
        "offsets": (slots.offsets, slots.tail),
    }
    placed = {name: np.concatenate([old, np.zeros(room, np.int64)]) for name, (old, _) in arrays.items()}
    for name, (_, new) in arrays.items():
        placed[name][at] = new
    return replace(slots, **placed, tail=slots.tail[:0])


def _measured(draft: Draft, view: TableView, *, recall: float) -> Draft | None:
    """The draft with its recall measured anew where that is quick or much changed; None if it fell short."""
    about = draft.about
    quick = view.rows <= _MEASURED_EACH_TIME
    if about.factory == "Flat" or not (quick or about.unmeasured > _UNMEASURED * view.rows):
        return draft
    score = tuned(draft.index, Kind(about.factory), draft.slots, Trial.of(view), recall=recall)
    if score.recall < recall:
        return None
    about = replace(
        about,
        parameters=dict(score.setting),
        recall_at_10=round(score.recall, 4),
        ms=round(score.ms, 4),
        unmeasured=0,
        wanted=recall,
    )
    return replace(draft, about=about)
