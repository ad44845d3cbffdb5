"""Which row each position of an index holds: stored beside it, sorted once, and mapped into memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.hashing import verified_sha256
from moe_retrieval.storage.durability import file_faults, replace_file, temporary_name
from moe_retrieval.storage.lookup import places

if TYPE_CHECKING:
    from pathlib import Path

NO_KEY = -1
"""Key of a position whose row was taken out of the index: no row has it."""


@dataclass(frozen=True, slots=True)
class Slots:
    """The positions of an index against the rows of one table version; all arrays are int64.

    A position is dead (its offset is -1) where its row went, or has another vector in this version.
    """

    keys: np.ndarray  # (positions)
    hashes: np.ndarray  # (positions): hash of the vector that the position holds
    offsets: np.ndarray  # (positions): row offset in the version
    row_keys: np.ndarray  # (rows), ascending
    row_offsets: np.ndarray  # (rows), in the order of row_keys
    tail: np.ndarray  # offsets of the rows that no position holds, ascending

    @classmethod
    def fresh(cls, keys: np.ndarray, hashes: np.ndarray) -> Slots:
        """One position for each row, in the order of the rows."""
        order = np.argsort(keys, kind="stable")
        return cls(keys, hashes, np.arange(len(keys)), keys[order], order, np.zeros(0, np.int64))

    def moved(self, keys: np.ndarray, hashes: np.ndarray) -> Slots:
        """The same positions against another version, whose rows have these keys and vector hashes.

        The comparison is by (key, vector hash) alone: it holds after a restore or an overwrite too.
        """
        order = np.argsort(keys, kind="stable")
        row_keys = keys[order]
        at = places(self.keys, among=row_keys)
        offsets = np.where(at >= 0, order[np.maximum(at, 0)] if len(order) else -1, -1)
        known = np.flatnonzero(offsets >= 0)
        offsets[known[hashes[offsets[known]] != self.hashes[known]]] = -1
        held = np.zeros(len(keys), bool)
        held[offsets[offsets >= 0]] = True
        return Slots(self.keys, self.hashes, offsets, row_keys, order, np.flatnonzero(~held))

    def offsets_of(self, keys: np.ndarray) -> np.ndarray:
        """Row offset of each key, -1 for one that no row has."""
        at = places(keys, among=self.row_keys)
        return np.where(at >= 0, self.row_offsets[np.maximum(at, 0)] if len(self.row_keys) else -1, -1)

    def write(self, path: Path) -> None:
        """Store them in one step; there must be no tail."""
        parts = (self.keys, self.hashes, self.offsets, self.row_keys, self.row_offsets)
        temporary = temporary_name(path)
        try:
            with file_faults("store the index"):
                with temporary.open("wb") as stream:
                    np.save(stream, np.concatenate(parts).astype(np.int64))
                replace_file(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path, *, sha256: str, positions: int, rows: int) -> Slots:
        """What was stored, mapped into memory: a search touches a few of its pages.

        Raises:
            StoreCorruptError: the file is not the one that was written.
        """
        check(path, sha256)
        try:
            whole = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise StoreCorruptError(f"{path.name} cannot be read", hint="it is rebuilt") from error
        if whole.dtype != np.int64 or whole.shape != (3 * positions + 2 * rows,):
            raise StoreCorruptError(f"{path.name} does not fit its index", hint="it is rebuilt")
        ends = np.cumsum([positions, positions, positions, rows])
        keys, hashes, offsets, row_keys, row_offsets = np.split(whole, ends)
        return cls(keys, hashes, offsets, row_keys, row_offsets, np.zeros(0, np.int64))


def check(path: Path, sha256: str) -> None:
    """Refuse a file whose bytes are not those that were written.

    Raises:
        StoreCorruptError: they are not, or the file is missing.
    """
    try:
        intact = verified_sha256(path) == sha256
    except OSError as error:
        raise StoreCorruptError(
            f"{path.name} cannot be read: {error.strerror}", hint="it is rebuilt"
        ) from error
    if not intact:
        raise StoreCorruptError(f"{path.name} is damaged", hint="it is rebuilt")
