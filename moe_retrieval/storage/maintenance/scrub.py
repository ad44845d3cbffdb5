"""Read every byte of a store and compare it with what was written.

What is checked: all files that a kept generation needs (`stock`), and the notes of runs and of experts that
wait. What is not: `lock` and `readers/` (who is at work now), `_transactions/` and the version hints of Lance
(no reader of a version needs them), and files that no kept generation names.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import MoeretError
from moe_retrieval.hashing import forget_sha256
from moe_retrieval.storage.maintenance.stock import NOT_AS_WRITTEN, Fault, Kind, Stock, Wanted, take_stock
from moe_retrieval.storage.tables.table_files import folder_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.places.place import Place
    from moe_retrieval.storage.store import Store

DERIVED = frozenset({Kind.TEXT_INDEX, Kind.ROUTER, Kind.INDEX, Kind.SUMS, Kind.NOTE})
"""What can be made again from the rest."""

_COPY = "restore it from a copy of the store"
_CURES = {
    Kind.GENERATION: f"{_COPY}; the newest can be moved away, to go back one generation",
    Kind.SUMS: "moeret doctor --repair writes it again where the table is whole",
    Kind.TABLE: f"{_COPY}, or go back to a generation without it (moeret rollback), or index anew",
    Kind.TEXT_INDEX: "moeret doctor --repair builds it again",
    Kind.EXPERT: "copy it back from where the expert was trained, or train it again",
    Kind.CANDIDATE: "delete it, then train or register the expert again",
    Kind.ROUTER: "moeret doctor --repair fits it again",
    Kind.INDEX: "moeret doctor --repair builds it again",
    Kind.STORE: _COPY,
    Kind.NOTE: "moeret doctor --repair removes it: a run that was stopped does its work again",
}
_OLDER = "only older generations need it: moeret gc --keep 1 lets them go"
_SECRET = "delete it; the next moeret index makes a new one"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not as it was written. `live`: the newest generation needs it."""

    name: str
    kind: Kind
    problem: str
    cure: str
    owner: str = ""
    live: bool = True

    @property
    def derived(self) -> bool:
        """Whether it can be made again from the rest of the store."""
        return self.kind in DERIVED

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What a scrub read. `unchecked`: what could not be told, with the reason, by name."""

    generations: int
    files: int
    bytes: int
    damages: tuple[Damage, ...]
    unchecked: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def scrub(
    store: Store,
    *,
    numbers: Iterable[int] | None = None,
    progress: Callable[[int], None] = lambda _size: None,
) -> ScrubReport:
    """Compare all bytes that the generations `numbers` (default: all there are) need with what was written.

    Nothing is changed. `progress` hears the size of each file that was read.
    """
    kept = store.catalog.numbers() if numbers is None else [*numbers]
    stock = take_stock(store, kept)
    place, size = store.place, 0
    for one in stock.wanted.values():
        problem, read = _compared(place, one)
        size += read
        progress(read)
        if problem:
            stock.faults.append(Fault(one.name, one.kind, problem, owner=one.owner, live=one.live))
    for entry in stock.unsummed.values():
        stock.faults += _rows(store, entry)
        stock.unchecked[_versioned(entry)] = "no checksums of its files; its rows were read, and their digest"
    for fault in stock.faults:
        forget_sha256(place.local / fault.name)  # whoever opens it next looks at its bytes again
    return ScrubReport(len(stock.generations), len(stock.wanted), size, _damages(stock), stock.unchecked)


def _compared(place: Place, one: Wanted) -> tuple[str, int]:
    """What is wrong with a file, empty if nothing is; and how many bytes were read."""
    try:
        size = place.size(one.name)
        if one.size not in (None, size):
            return f"has {size} bytes, {one.size} were written", 0
        found = place.sha256(one.name)
    except FileNotFoundError:
        return "is missing", 0
    except OSError as error:
        return f"cannot be read: {error.strerror}", 0
    except MoeretError as error:
        return f"cannot be read: {error.message}", 0
    return "" if found == one.sha256 else NOT_AS_WRITTEN, size


def _rows(store: Store, entry: DomainEntry) -> Iterator[Fault]:
    """What can be told of a table version without checksums: that all can be read, and its rows' digest."""
    problem = ""
    try:
        view = store.view(entry)
        for _batch in view.batches():
            pass
        if view.digest() != entry.digest:
            problem = "its rows are not those that were published"
    except MoeretError as error:
        problem = error.message
    if problem:
        yield Fault(_versioned(entry), Kind.TABLE, problem, owner=entry.table)


def _versioned(entry: DomainEntry) -> str:
    return f"{folder_of(entry.table)} version {entry.version}"


def _damages(stock: Stock) -> tuple[Damage, ...]:
    faults = {fault.name: fault for fault in reversed(stock.faults)}
    return tuple(
        Damage(one.name, one.kind, one.problem, _cure(one), owner=one.owner, live=one.live)
        for one in sorted(faults.values(), key=lambda one: one.name)
    )


def _cure(fault: Fault) -> str:
    if fault.name == "secret":
        return _SECRET
    return _CURES[fault.kind] if fault.live else _OLDER
