"""Which expert waits for which domain: a sealed note per domain, that vouches for the expert's files too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.storage.places.small_files import expert_sums
from moe_retrieval.storage.seal import sealed, unsealed
from moe_retrieval.types import slug

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.storage.places.place import Place

CANDIDATES = "experts/candidates"
_UNSEALED = re.compile(rb"[0-9a-f]{64}")


class Note(NamedTuple):
    """An expert, named by the sha256 of its weights, and the sha256 of what lies beside them.

    Notes of earlier versions say nothing but the name: `checked` is False then.
    """

    expert: str
    files: Mapping[str, str]
    checked: bool


def register(place: Place, domain: str, expert: str) -> None:
    """Note an expert, whose files the store holds, as the candidate of a domain."""
    lines = [expert, *(f"{sha256}  {name}" for name, sha256 in expert_sums(place, expert).items())]
    place.replace(f"{CANDIDATES}/{domain}", sealed("\n".join(lines)))


def registered(place: Place) -> dict[str, str]:
    """The candidate of every domain that has one.

    Raises:
        StoreCorruptError: a note is damaged.
    """
    return {domain: note(place, domain).expert for domain in domains(place)}


def domains(place: Place) -> list[str]:
    """Domains that have a note; half-written ones that a kill left are none."""
    return [name for name in place.names(CANDIDATES) if slug(name) == name]


def note(place: Place, domain: str) -> Note:
    """The note of one domain.

    Raises:
        StoreCorruptError: it is damaged.
    """
    name = f"{CANDIDATES}/{domain}"
    data = place.read(name)
    if _UNSEALED.fullmatch(data.strip()):
        return Note(data.decode().strip(), {}, checked=False)
    try:
        expert, *lines = unsealed(data).split("\n")
    except ValueError as error:
        raise StoreCorruptError(
            f"{name} is damaged, the note of the expert that waits for domain {domain}",
            hint="delete it, then train or register the expert again",
        ) from error
    files = {found: sha256 for sha256, _, found in (line.partition("  ") for line in lines)}
    return Note(expert, files, checked=True)
