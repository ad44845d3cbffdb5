"""Token vectors of a graph to one vector per text, in float32 whatever the graph computed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def padded(
    token_ids: Sequence[Sequence[int]], *, pad: int, multiple: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids (n, longest, rounded up) and their mask of ones and zeros."""
    longest = -(-max(map(len, token_ids)) // multiple) * multiple
    ids = np.full((len(token_ids), longest), pad, np.int64)
    mask = np.zeros_like(ids)
    for row, own in enumerate(token_ids):
        ids[row, : len(own)] = own
        mask[row, : len(own)] = 1
    return ids, mask


def pool(hidden: NDArray[np.float32], mask: NDArray[np.int64], *, how: str) -> NDArray[np.float32]:
    """(n, tokens, dim) -> (n, dim): the first token's vector, or the mean of those that are no padding."""
    if how == "cls":
        return hidden[:, 0].astype(np.float32)
    weights = mask.astype(np.float32)
    sums: NDArray[np.float32] = np.einsum("ntd,nt->nd", hidden, weights, optimize=True)
    means: NDArray[np.float32] = sums / weights.sum(axis=1, keepdims=True)
    return means
