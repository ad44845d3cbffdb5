"""What changed: each document of a run against what the store held before it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Int64s = NDArray[np.int64]
    Bools = NDArray[np.bool_]


_Kind = TypeVar("_Kind", bound=np.generic)


class Change(StrEnum):
    """What a document of this run is to the store."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    MOVED = "moved"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class KnownDocuments:
    """What one domain's table holds: one entry per document, in any order."""

    domain: str
    keys: Int64s  # (n,) document keys
    hashes: Int64s  # (n,) content hashes
    complete: Bools  # (n,) False where a killed run left only some chunks of the document


class ChangeLog:
    """Compares the documents of one run, one by one, with the tables as they were before it.

    Memory: 21 bytes per known document, and a set entry per new one.
    """

    def __init__(self, known: Iterable[KnownDocuments]) -> None:
        tables = list(known)
        self._domains = tuple(table.domain for table in tables)
        keys = _joined([table.keys for table in tables], np.int64)
        order = np.argsort(keys, kind="stable")  # stable: the homes of a key stay in the order of the tables
        self._keys: Int64s = keys[order]
        self._hashes: Int64s = _joined([table.hashes for table in tables], np.int64)[order]
        self._complete: Bools = _joined([table.complete for table in tables], np.bool_)[order]
        homes = [np.full(len(table.keys), place, dtype=np.int32) for place, table in enumerate(tables)]
        self._homes: NDArray[np.int32] = _joined(homes, np.int32)[order]
        self._seen: Bools = np.zeros(len(keys), dtype=np.bool_)
        self._seen_new: set[int] = set()

    def classify(self, key: int, content_hash: int, *domains: str) -> Change:
        """What the document `key` is now, read with `content_hash` for `domains`; marks it as seen.

        A document that another domain's table holds is MOVED even where one of `domains` holds it too: the
        other copy is left over from a killed run, and handling it as moved removes it.
        """
        first, last = self._rows(key)
        if first == last:
            return self._classify_unknown(key)
        if self._seen[first]:
            return Change.DUPLICATE
        self._seen[first:last] = True
        if any(self._domains[home] not in domains for home in self._homes[first:last]):
            return Change.MOVED
        same = all(self.holds(key, content_hash, domain) for domain in domains)
        return Change.UNCHANGED if same else Change.CHANGED

    def holds(self, key: int, content_hash: int, domain: str) -> bool:
        """Whether the table of `domain` held all of the document before this run, with this hash."""
        first, last = self._rows(key)
        rows = [at for at in range(first, last) if self._domains[self._homes[at]] == domain]
        return bool(rows) and all(self._complete[at] and self._hashes[at] == content_hash for at in rows)

    def is_shared(self, key: int) -> bool:
        """Whether the document was written as one of several domains (`hashing.shared_hash`)."""
        first, last = self._rows(key)
        return bool(np.any(self._hashes[first:last] < 0))

    def homes(self, key: int) -> tuple[str, ...]:
        """The domains whose tables held `key` before this run, in the order the tables were given."""
        first, last = self._rows(key)
        return tuple(dict.fromkeys(self._domains[home] for home in self._homes[first:last]))

    def unseen(self, domain: str) -> Int64s:
        """Keys of `domain` that no document of this run had, ascending. Moved ones were seen: see `homes`."""
        places = [place for place, name in enumerate(self._domains) if name == domain]
        return np.unique(self._keys[np.isin(self._homes, places) & ~self._seen])

    def _classify_unknown(self, key: int) -> Change:
        if key in self._seen_new:
            return Change.DUPLICATE
        self._seen_new.add(key)
        return Change.NEW

    def _rows(self, key: int) -> tuple[int, int]:
        first = int(self._keys.searchsorted(key, side="left"))
        last = first
        while last < len(self._keys) and self._keys[last] == key:
            last += 1
        return first, last


def _joined(parts: Sequence[NDArray[_Kind]], kind: type[_Kind]) -> NDArray[_Kind]:
    return np.concatenate(parts).astype(kind, copy=False) if parts else np.empty(0, dtype=kind)
