"""Documents that a killed run was moving: in the table of one domain, not yet taken from another's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.storage.lookup import distinct, places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_retrieval.corpus.changes import Int64s, KnownDocuments


def unfinished_moves(
    known: Sequence[KnownDocuments], *, published: Callable[[str], Int64s]
) -> dict[str, list[int]]:
    """By domain, the documents to take from it, so that each has one home: the one that it was moved to.

    Copies that were written to lie in several domains (their hashes are negative, see `hashing.shared_hash`)
    are homes together. `published` gives the keys of the documents that the live generation has in a domain.
    """
    doubled = _doubled(known)
    if not len(doubled):
        return {}
    leaving: dict[str, list[int]] = {table.domain: [] for table in known}
    live = {table.domain: set(_among(published(table.domain), doubled)) for table in known}
    copies = [_copies(table, doubled) for table in known]
    for key in doubled.tolist():
        homes = [(table.domain, *held[key]) for table, held in zip(known, copies, strict=True) if key in held]
        # false sorts before true: a whole copy that is no part of the live generation comes first, then one
        # that was written to be the only one
        homes.sort(key=lambda home: (not home[2], key in live[home[0]], home[1] < 0))
        together = homes[0][1] < 0
        for domain, stored, _ in homes[1:]:
            if not (together and stored < 0):
                leaving[domain].append(key)
    return leaving


def without(known: KnownDocuments, keys: Sequence[int]) -> KnownDocuments:
    """What is known of a domain once these documents have left it."""
    stay = ~np.isin(known.keys, np.array(keys, np.int64))
    return replace(known, keys=known.keys[stay], hashes=known.hashes[stay], complete=known.complete[stay])


def _doubled(known: Sequence[KnownDocuments]) -> Int64s:
    """Keys that more than one domain has, less those whose every copy was written to be one of several."""
    if not known:
        return np.zeros(0, np.int64)
    keys = np.concatenate([table.keys for table in known])
    alone = distinct(np.concatenate([table.keys[table.hashes >= 0] for table in known]))
    unique, counts = np.unique(keys, return_counts=True)
    return np.array(_among(unique[counts > 1], alone), np.int64)


def _copies(table: KnownDocuments, keys: Int64s) -> dict[int, tuple[int, bool]]:
    """Stored hash of each of these documents that a table has, and whether all of it is there."""
    at = np.flatnonzero(places(table.keys, among=keys) >= 0)
    rows = zip(table.hashes[at].tolist(), table.complete[at].tolist(), strict=True)
    return dict(zip(table.keys[at].tolist(), rows, strict=True))


def _among(keys: Int64s, others: Int64s) -> list[int]:
    """Those of the keys that are among others, which are ascending."""
    chosen: list[int] = keys[places(keys, among=others) >= 0].tolist()
    return chosen
