"""How a table version is doing, without reading its rows: its files' sizes, fragments, and text index."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.errors import MoeretError
from moe_retrieval.storage.engine import engine_faults
from moe_retrieval.storage.places.marker import PROGRESS
from moe_retrieval.storage.seal import unsealed
from moe_retrieval.storage.tables import sums
from moe_retrieval.storage.tables.rows import CONTENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.places.place import Place
    from moe_retrieval.storage.tables.view import TableView


@dataclass(frozen=True, slots=True)
class TableHealth:
    """Fragments of a table, whether it has a text index, and the rows that this does not hold yet."""

    fragments: int
    text_indexed: bool
    text_tail: int


def health_of(view: TableView) -> TableHealth:
    """How a table version is doing.

    Raises:
        StoreCorruptError: it cannot be told, for a file is damaged.
    """
    with engine_faults(f"look at table {view.name}"):
        dataset = view.dataset
        fragments = len(dataset.get_fragments())
        names = [index.name for index in dataset.describe_indices() if CONTENT in index.field_names]
        if not names:
            return TableHealth(fragments, text_indexed=False, text_tail=view.rows)
        held = dataset.stats.index_stats(names[0])
        return TableHealth(fragments, text_indexed=True, text_tail=int(held["num_unindexed_rows"]))


def wrong_files(place: Place, entry: DomainEntry) -> Iterator[tuple[str, str]]:
    """Name and problem of each file of a table version that is missing, or not as long as it was written.

    Nothing is told of versions without a list of checksums.
    """
    if not entry.sums:
        return
    try:
        listed = sums.read(place, entry.sums).files
    except MoeretError as error:
        yield sums.name_of(entry.sums), error.message.removeprefix(f"{sums.name_of(entry.sums)} ")
        return
    for name, (written, _) in listed.items():
        if problem := _size_problem(place, name, written):
            yield name, problem


def _size_problem(place: Place, name: str, written: int) -> str:
    try:
        size = place.size(name)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    return "" if size == written else f"has {size} bytes, {written} were written"


def lost_generations(place: Place, kept: Iterable[Generation]) -> Iterator[str]:
    """A sentence if the file of the newest generation was lost: runs note the number of the one they made."""
    newest = max((one.number for one in kept), default=0)
    noted = max(_noted(place), default=0)
    if noted > newest:
        yield f"generation {noted} was published, but the newest is {newest}: a generation is missing"


def _noted(place: Place) -> Iterator[int]:
    """After which generation each table was last written to by a run."""
    for name in (one for one in place.names(PROGRESS) if one.startswith("d_")):
        with contextlib.suppress(FileNotFoundError, ValueError):
            yield int(unsealed(place.read(f"{PROGRESS}/{name}")))
