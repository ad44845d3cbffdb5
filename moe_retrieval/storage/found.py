"""What a search of one table found, and how equal scores are put in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

TIE_MARGIN = 16
MAX_TIES = 4_096


@dataclass(frozen=True, slots=True)
class Found:
    """Keys (int64) and scores (float32), best first; equal scores are in the order of their keys."""

    keys: np.ndarray
    scores: np.ndarray

    @classmethod
    def nothing(cls) -> Found:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.float32))

    @classmethod
    def ranked(cls, keys: np.ndarray, scores: np.ndarray, *, k: int) -> Found:
        """The best k of unordered candidates."""
        order = np.lexsort((keys, -scores))[:k]
        return cls(np.asarray(keys[order], np.int64), np.asarray(scores[order], np.float32))


def untied(search: Callable[[int], tuple[np.ndarray, np.ndarray]], *, k: int) -> Found:
    """The best k of a search that takes a limit and gives keys and scores, best first, ties in any order.

    It is asked for a little more than k, and for more still while equal scores straddle the cut: which are
    found then depends on their keys, not on how the rows lie (up to 4,096 equals; then on the search).
    """
    limit = k + TIE_MARGIN
    while True:
        keys, scores = search(limit)
        straddles = len(keys) == limit and scores[k - 1] == scores[-1]
        if not straddles or limit >= MAX_TIES:
            return Found.ranked(keys, scores, k=k)
        limit = 4 * limit
