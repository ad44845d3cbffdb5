"""The small files of a store that have no hash for a name: marker, secret, and what lies beside an expert.

Every generation records their sha256 under its seal, so that a scrub can tell whether they are as they were.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from moe_retrieval.storage.places.place import MARKER, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from moe_retrieval.storage.places.place import Place

EXPERTS = "experts"
WEIGHTS = ".safetensors"
"""Weights are named by their sha256: their folder is."""


def small_sums(place: Place, experts: Iterable[str], *, known: Mapping[str, str]) -> dict[str, str]:
    """sha256 of the small files by their names in the store, for a generation that pins these experts.

    An expert's files never change once a generation recorded them: those in `known` are not read again.
    """
    beside = [name for expert in sorted(set(experts)) for name in _beside(place, expert)]
    found = {name: known[name] for name in beside if name in known}
    for name in [MARKER, SECRET, *(name for name in beside if name not in known)]:
        with contextlib.suppress(FileNotFoundError):
            found[name] = place.sha256(name)
    return found


def expert_sums(place: Place, expert: str) -> dict[str, str]:
    """sha256 of what lies beside the weights of an expert that the store holds, by names in the store."""
    return {name: place.sha256(name) for name in _beside(place, expert)}


def _beside(place: Place, expert: str) -> list[str]:
    """What lies beside the weights of an expert; nothing for one that the store does not hold."""
    folder = f"{EXPERTS}/{expert}"
    names = [name for name in place.names(folder) if not name.startswith(".")]
    return [f"{folder}/{name}" for name in names if not name.endswith(WEIGHTS)]
