"""Exact search by reading vectors: what approximate searches are measured against, and fall back to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.errors import BadVectorError
from moe_retrieval.storage.found import Found
from moe_retrieval.storage.lookup import distinct, places
from moe_retrieval.storage.tables.rows import VECTOR, to_numpy

if TYPE_CHECKING:
    from moe_retrieval.storage.tables.view import TableView


def fit_queries(queries: np.ndarray, *, view: TableView) -> np.ndarray:
    """Query vectors as float32 (n, dim), contiguous.

    Raises:
        BadVectorError: they are not of the table's width, or one has no direction; its place is named.
    """
    wanted = np.ascontiguousarray(np.atleast_2d(queries), np.float32)
    if wanted.shape[1] != view.dim:
        raise BadVectorError(
            f"a query has width {wanted.shape[1]}, table {view.name} has {view.dim}",
            hint="query with the model the store was written with",
        )
    lengths = np.linalg.norm(wanted, axis=1)
    if len(bad := np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))):
        what = "is zero" if lengths[bad[0]] == 0 else "is not finite"
        raise BadVectorError(f"the vector of query {bad[0]} {what}", hint="check the model's weights")
    return wanted


def search_at(
    view: TableView, queries: np.ndarray, *, k: int, keys: np.ndarray, offsets: np.ndarray
) -> list[Found]:
    """The k best of the rows at `offsets`, whose keys are `keys`, for each query, float32 (n, dim)."""
    if not len(offsets):
        return [Found.ranked(keys, np.zeros(0, np.float32), k=k) for _ in queries]
    order = np.argsort(offsets)  # rows are read fastest in their own order
    scores = queries @ view.vectors(offsets[order]).T  # (queries, rows)
    return [Found.ranked(keys[order], row, k=k) for row in scores]


def search_all(
    view: TableView, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None
) -> list[Found]:
    """The k best of all rows, or of those whose keys are `allowed`, reading the table once in batches."""
    best = [Found.nothing() for _ in queries]
    among = None if allowed is None else distinct(allowed)
    for batch in view.batches(["key", VECTOR]):
        keys, vectors = batch["key"].to_numpy(), to_numpy(batch[VECTOR])
        if among is not None:
            chosen = places(keys, among=among) >= 0
            keys, vectors = keys[chosen], vectors[chosen]
        for place, scores in enumerate(queries @ vectors.T):
            best[place] = _improved(best[place], keys, scores, k=k)
    return best


def _improved(best: Found, keys: np.ndarray, scores: np.ndarray, *, k: int) -> Found:
    """The k best of a list and of more rows. Few rows of a batch can be among them: only those are sorted."""
    if len(best.keys) >= k:
        near = np.flatnonzero(scores >= best.scores[-1])
        keys, scores = keys[near], scores[near]
    if len(keys) > 4 * k:
        near = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
        keys, scores = keys[near], scores[near]
    return join(best, Found(keys, scores), k=k) if len(keys) else best


def join(one: Found, other: Found, *, k: int) -> Found:
    """The k best of two lists without common keys."""
    return Found.ranked(
        np.concatenate([one.keys, other.keys]), np.concatenate([one.scores, other.scores]), k=k
    )
