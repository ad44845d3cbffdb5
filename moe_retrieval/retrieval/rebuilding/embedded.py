"""Vectors that are there already: by the text they stand for, under the fingerprint that is wanted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.errors import MoeretError
from moe_retrieval.hashing import hash63
from moe_retrieval.storage.lookup import places
from moe_retrieval.storage.tables.rows import CONTENT, VECTOR, to_numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.view import TableView

_LOOKED_AT = 100
"""Generations, the newest, that are asked what a domain was before."""


class Embedded:
    """The vectors of one table version, found by content."""

    def __init__(self, view: TableView) -> None:
        self._view = view
        marks = [mark_of(text) for batch in view.batches((CONTENT,)) for text in batch[CONTENT].to_pylist()]
        found = np.array(marks, np.int64)
        self._order = np.argsort(found, kind="stable")
        self._marks = found[self._order]

    def holds(self, contents: Sequence[str]) -> np.ndarray:
        """Which of these texts (n,) have a vector."""
        return self._offsets(contents) >= 0

    def vectors(self, contents: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Which of these texts (n,) have a vector, and these vectors, float32 (those, dim), in their order.

        Texts are compared byte for byte; their hashes only say where to look.
        """
        offsets = self._offsets(contents)
        there = offsets >= 0
        rows = self._view.take(offsets[there], columns=[CONTENT, VECTOR])
        wanted = list(itertools.compress(contents, there))
        same = np.array(
            [one == other for one, other in zip(wanted, rows[CONTENT].to_pylist(), strict=True)], bool
        )
        there[np.flatnonzero(there)[~same]] = False
        return there, to_numpy(rows[VECTOR])[same]

    def _offsets(self, contents: Sequence[str]) -> np.ndarray:
        wanted = np.array([mark_of(text) for text in contents], np.int64)
        found = places(wanted, among=self._marks)
        return np.where(found >= 0, self._order[found], -1) if len(self._order) else found


def mark_of(text: str) -> int:
    """A text in 63 bits."""
    return hash63(text.encode())


def embedded_before(
    store: Store, domain: str, *, fingerprint: str, precision: str, live: DomainEntry
) -> Embedded | None:
    """Vectors of a domain under a fingerprint: of its live table, or of one that an older generation pins."""
    for entry in (live, *entries_before(store, domain)):
        if (entry.fingerprint, entry.precision) != (fingerprint, precision):
            continue
        try:
            return Embedded(store.view(entry))
        except MoeretError:  # it was cleaned up
            continue
    return None


def entries_before(store: Store, domain: str) -> list[DomainEntry]:
    """What the newest generations record of a domain, the newest first, each once."""
    found: dict[tuple[str, int], DomainEntry] = {}
    for number in store.catalog.numbers()[-_LOOKED_AT:]:
        try:
            entry = store.catalog.read(number).domains.get(domain)
        except MoeretError:
            continue
        if entry is not None:
            found[entry.table, entry.version] = entry
    return list(reversed(found.values()))
