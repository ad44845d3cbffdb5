"""Documents that a killed run was moving: in the table of one domain, not yet taken from another's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_retrieval.corpus.changes import Int64s, KnownDocuments


def unfinished_moves(
    known: Sequence[KnownDocuments], *, published: Callable[[str], Int64s]
) -> dict[str, list[int]]:
    """By domain, the documents to take from it, so that each has one home: the one that it was moved to.

    `published` gives the keys of the documents that the live generation has in a domain.
    """
    doubled = _in_several(known)
    if not len(doubled):
        return {}
    leaving: dict[str, list[int]] = {table.domain: [] for table in known}
    live = {table.domain: set(published(table.domain).tolist()) for table in known}
    whole = {table.domain: set(table.keys[table.complete].tolist()) for table in known}
    held = {table.domain: set(table.keys.tolist()) for table in known}
    for key in doubled.tolist():
        homes = [domain for domain in held if key in held[domain]]
        # false sorts before true: a whole copy that is no part of the live generation comes first
        homes.sort(key=lambda domain: (key not in whole[domain], key in live[domain]))
        for domain in homes[1:]:
            leaving[domain].append(key)
    return leaving


def without(known: KnownDocuments, keys: Sequence[int]) -> KnownDocuments:
    """What is known of a domain once these documents have left it."""
    stay = ~np.isin(known.keys, np.array(keys, np.int64))
    return replace(known, keys=known.keys[stay], hashes=known.hashes[stay], complete=known.complete[stay])


def _in_several(known: Sequence[KnownDocuments]) -> Int64s:
    """Keys that more than one domain has."""
    keys = np.concatenate([np.unique(table.keys) for table in known]) if known else np.zeros(0, np.int64)
    unique, counts = np.unique(keys, return_counts=True)
    return np.asarray(unique[counts > 1], np.int64)
