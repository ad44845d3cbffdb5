"""Vectors of windows to unit vectors of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import BadVectorError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TextVectors:
    """Adds up window vectors, in any order, and tells which texts are complete.

    `owners` (windows,): the text each window belongs to. A text's vector is the mean of its windows' unit
    vectors, weighted by their tokens, scaled to length one.
    """

    def __init__(self, owners: NDArray[np.int64], *, texts: int, dim: int) -> None:
        self._owners = owners
        self._waiting = np.bincount(owners, minlength=texts)
        self._sums = np.zeros((texts, dim), np.float64)

    def add(self, places: list[int], vectors: NDArray[np.float32], *, weights: list[int]) -> int:
        """Take the vectors (n, dim) of the windows at `places`; returns how many texts are now complete.

        Raises:
            BadVectorError: a vector is zero, or not finite.
        """
        mine = self._owners[places]
        weighted = unit(vectors, texts=mine) * np.array(weights, np.float64)[:, None]
        np.add.at(self._sums, mine, weighted)
        np.subtract.at(self._waiting, mine, 1)
        return int((self._waiting[np.unique(mine)] == 0).sum())

    def finished(self) -> NDArray[np.float32]:
        """Unit vectors (texts, dim)."""
        return unit(self._sums, texts=np.arange(len(self._sums))).astype(np.float32)


def unit(vectors: NDArray[Any], *, texts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rows scaled to length one; `texts` says which text of the call each row belongs to.

    Raises:
        BadVectorError: a row is zero, or not finite.
    """
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if bad.size:
        raise BadVectorError(
            f"the encoder gave a zero or not finite vector for text {int(texts[bad[0]])} of this call",
            hint="the weights may be damaged; check the model folder, or the expert of this domain",
        )
    scaled: NDArray[np.float64] = wide / norms[:, None]
    return scaled
