"""Is a new table what it was to be? Asked before it is published: afterwards queries would answer from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.errors import StoreError
from moe_retrieval.hashing import hash63
from moe_retrieval.storage.lookup import distinct, places
from moe_retrieval.storage.tables.digest import digest_of
from moe_retrieval.storage.tables.rows import CONTENT, VECTOR, to_numpy
from moe_retrieval.storage.tables.table_files import folder_of
from moe_retrieval.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.view import TableView

SAMPLE = 8
"""Chunks that are encoded once more: a few are enough to see vectors that belong to other texts."""

TOLERANCE = {Precision.INT8: 0.05}
"""How far a cosine may be from one: 8-bit arithmetic depends on which texts share a batch."""

_CLOSE = 1e-3


def verify(
    store: Store,
    entry: DomainEntry,
    *,
    keys: np.ndarray,
    hashes: np.ndarray,
    live: np.ndarray,
    check: Callable[[list[str]], np.ndarray],
) -> None:
    """Compare a new table, at the version that `entry` names, with what it was to hold; remove it if it
    differs, so that the next run begins anew.

    `keys` (int64, ascending) and `hashes`: its documents. `live`: keys of the rows that it must have in
    common with the live table. `check` encodes texts once more.

    Raises:
        StoreError: says what differs; the live table is untouched.
    """
    view = store.view(entry)
    reason = (
        _documents(store, entry, keys, hashes)
        or _rows(view, entry, live)
        or _digest(view, entry)
        or _vectors(view, entry, check)
    )
    if reason:
        store.place.remove_tree(folder_of(entry.table))
        raise StoreError(
            f"the new table {entry.table} {reason}; it was removed, and the live table is untouched",
            hint="run moeret reindex again; if it stays, moeret doctor",
        )


def _documents(store: Store, entry: DomainEntry, keys: np.ndarray, hashes: np.ndarray) -> str:
    """Whether it holds exactly the documents it was to hold, each whole and of the right content."""
    found = store.table(entry.table).documents()
    if len(found.keys) != len(keys) or not np.array_equal(found.keys, keys):
        return f"holds {len(found.keys)} documents where {len(keys)} were to be written"
    wrong = int((found.hashes != hashes).sum() + (~found.complete).sum())
    return f"holds {wrong} documents in parts, or of another content" if wrong else ""


def _rows(view: TableView, entry: DomainEntry, live: np.ndarray) -> str:
    """Whether every row has a key of its own, and none of the live ones is missing."""
    keys = distinct(view.key_vh()[0])
    if len(keys) != entry.rows:
        return f"holds {entry.rows - len(keys)} rows twice"
    lost = int((places(live, among=keys) < 0).sum())
    return f"lacks {lost} of the live rows" if lost else ""


def _digest(view: TableView, entry: DomainEntry) -> str:
    """Whether the digest comes out again from the bytes of the vectors themselves."""
    keys, hashes = [], []
    for batch in view.batches(("key", VECTOR)):
        keys.append(batch["key"].to_numpy())
        hashes += [hash63(vector.tobytes()) for vector in to_numpy(batch[VECTOR])]
    found = digest_of(np.concatenate([np.zeros(0, np.int64), *keys]), np.array(hashes, np.int64))
    return "" if found == entry.digest else "holds other vectors than were written"


def _vectors(view: TableView, entry: DomainEntry, check: Callable[[list[str]], np.ndarray]) -> str:
    """Whether a few vectors, spread over the table, are those of their texts."""
    if not entry.rows:
        return ""
    order = np.argsort(view.key_vh()[0])
    offsets = order[np.linspace(0, entry.rows - 1, min(SAMPLE, entry.rows)).astype(np.int64)]
    rows = view.take(offsets, columns=[CONTENT, VECTOR])
    cosines = np.sum(check(rows[CONTENT].to_pylist()) * to_numpy(rows[VECTOR]), axis=1)
    far = int((cosines < 1 - TOLERANCE.get(Precision(entry.precision), _CLOSE)).sum())
    return f"holds vectors that are not those of their texts ({far} of {len(cosines)})" if far else ""
