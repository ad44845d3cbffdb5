"""What a store must consist of: every file that its generations need, and the sha256 it must have.

All of it hangs on the seals of the generations: they name lists of checksums of the tables' files, and hold
the checksums of the small ones; experts and routers are named by their sha256, index files by side-cars.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from moe_retrieval.errors import MoeretError
from moe_retrieval.storage import candidate_notes
from moe_retrieval.storage.catalog import CATALOG, FORMAT, name_of
from moe_retrieval.storage.indexes import sidecar
from moe_retrieval.storage.maintenance.health import lost_generations
from moe_retrieval.storage.places.marker import PROGRESS
from moe_retrieval.storage.places.small_files import EXPERTS
from moe_retrieval.storage.seal import unsealed
from moe_retrieval.storage.tables import sums
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.places.place import Place
    from moe_retrieval.storage.store import Store

ROUTERS, INDEXES = "routers", "indexes"
NOT_AS_WRITTEN = "is damaged: its bytes are not those that were written"


class Kind(StrEnum):
    """What a file is for."""

    GENERATION = "generation"
    SUMS = "checksums"
    TABLE = "table"
    TEXT_INDEX = "text index"
    EXPERT = "expert"
    CANDIDATE = "candidate"
    ROUTER = "router"
    INDEX = "vector index"
    STORE = "store"
    NOTE = "note of a run"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file and what it must be. `owner`: the table or expert it belongs to; `live`: whether the newest
    generation needs it, and not only older ones.
    """

    name: str
    kind: Kind
    sha256: str
    size: int | None = None
    owner: str = ""
    live: bool = True


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that is not what it must be, and why."""

    name: str
    kind: Kind
    problem: str
    owner: str = ""
    live: bool = True


@dataclass(slots=True)
class Stock:
    """What was found when the store's own lists were read. `unsummed`: table versions without checksums."""

    generations: list[Generation] = field(default_factory=list)
    wanted: dict[str, Wanted] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unsummed: dict[tuple[str, int], DomainEntry] = field(default_factory=dict)
    unchecked: dict[str, str] = field(default_factory=dict)

    def want(self, one: Wanted) -> None:
        """Look at a file; what is said of it last counts."""
        self.wanted[one.name] = one


def take_stock(store: Store, numbers: Iterable[int]) -> Stock:
    """Read the lists of a store: its generations, checksums, notes and side-cars, each checked itself."""
    stock = Stock()
    for number in sorted(numbers):
        _generation(store, number, stock)
    _chain(store.place, stock)
    newest = stock.generations[-1] if stock.generations else None
    for generation in stock.generations:  # the newest last: what it needs is live
        _contents(store.place, generation, stock, live=generation is newest)
    _candidates(store.place, stock)
    _notes(store.place, stock)
    live = {entry.digest for entry in newest.domains.values()} if newest else set()
    _indexes(store.place, stock, live=live)
    return stock


def _generation(store: Store, number: int, stock: Stock) -> None:
    name = name_of(number)
    try:
        found = store.catalog.read(number)
        raw = store.place.read(name)
        if not _as_written(raw):
            stock.faults.append(Fault(name, Kind.GENERATION, NOT_AS_WRITTEN))
        stock.generations.append(found)
    except (MoeretError, FileNotFoundError) as error:
        problem = error.message if isinstance(error, MoeretError) else "is missing"
        stock.faults.append(Fault(name, Kind.GENERATION, problem.removeprefix(f"{name} ")))


def _as_written(raw: bytes) -> bool:
    """The seal covers what a generation says; this, also how: no bit may differ and say the same."""
    outer = json.loads(raw)
    return 1 <= outer["format"] <= FORMAT and json.dumps(outer, indent=1).encode() == raw


def _chain(place: Place, stock: Stock) -> None:
    """Whether generations follow from each other; and, where all can be read, whether the newest is there."""
    if not stock.faults:
        lost = lost_generations(place, stock.generations)
        stock.faults += [Fault(CATALOG, Kind.GENERATION, f"is incomplete: {said}") for said in lost]
    for older, newer in itertools.pairwise(stock.generations):
        if newer.number == older.number + 1 and newer.previous != older.seal:
            problem = "does not follow from the generation before it"
            stock.faults.append(Fault(name_of(newer.number), Kind.GENERATION, problem))


def _contents(place: Place, generation: Generation, stock: Stock, *, live: bool) -> None:
    for entry in generation.domains.values():
        _table(place, entry, stock, live=live)
        if entry.expert != GENERAL:
            held = f"{EXPERTS}/{entry.expert}/card.json" in generation.files
            _expert(place, entry.expert, stock, held=held, live=live)
    for name, sha256 in generation.files.items():
        expert = name.split("/")[1] if name.startswith(f"{EXPERTS}/") else ""
        stock.want(Wanted(name, Kind.EXPERT if expert else Kind.STORE, sha256, owner=expert, live=live))
    if not generation.files:
        stock.unchecked[name_of(generation.number)] = "it holds no checksums of the small files it needs"
    if generation.router:
        name = f"{ROUTERS}/{generation.router}.safetensors"
        stock.want(Wanted(name, Kind.ROUTER, generation.router, live=live))


def _table(place: Place, entry: DomainEntry, stock: Stock, *, live: bool) -> None:
    if not entry.sums:
        stock.unsummed[entry.table, entry.version] = entry
        return
    name = sums.name_of(entry.sums)
    try:
        listed = sums.read(place, entry.sums)
    except MoeretError as error:
        problem = error.message.removeprefix(f"{name} ")
        stock.faults.append(Fault(name, Kind.SUMS, problem, owner=entry.table, live=live))
        stock.unsummed[entry.table, entry.version] = entry
        return
    for file, (size, sha256) in listed.files.items():
        kind = Kind.TEXT_INDEX if "/_indices/" in file else Kind.TABLE
        stock.want(Wanted(file, kind, sha256, size=size, owner=entry.table, live=live))


def _expert(place: Place, expert: str, stock: Stock, *, held: bool, live: bool = True) -> None:
    """The weights of an expert that the store holds; others lie in the folder of the model."""
    folder = f"{EXPERTS}/{expert}"
    if held or place.names(folder):
        stock.want(Wanted(f"{folder}/expert.safetensors", Kind.EXPERT, expert, owner=expert, live=live))


def _candidates(place: Place, stock: Stock) -> None:
    for domain in candidate_notes.domains(place):
        name = f"{candidate_notes.CANDIDATES}/{domain}"
        try:
            note = candidate_notes.note(place, domain)
        except (MoeretError, FileNotFoundError):
            stock.faults.append(Fault(name, Kind.CANDIDATE, NOT_AS_WRITTEN, owner=domain))
            continue
        _expert(place, note.expert, stock, held=True)
        for file, sha256 in note.files.items():
            stock.want(Wanted(file, Kind.EXPERT, sha256, owner=note.expert))
        if not note.checked:
            stock.unchecked[name] = "it was written without a checksum"


def _notes(place: Place, stock: Stock) -> None:
    """After which generation runs wrote to tables; a note that cannot be read counts as none."""
    for name in (f"{PROGRESS}/{one}" for one in place.names(PROGRESS) if one.startswith("d_")):
        try:
            unsealed(place.read(name))
        except (FileNotFoundError, ValueError):
            stock.faults.append(Fault(name, Kind.NOTE, NOT_AS_WRITTEN))


def _indexes(place: Place, stock: Stock, *, live: set[str]) -> None:
    for name in (one for one in place.names(INDEXES) if one.endswith(".json") and not one.startswith(".")):
        stem = name.removesuffix(".json")
        try:
            data = place.read(f"{INDEXES}/{name}")
            one = sidecar.parse(data, stem=stem)
        except (MoeretError, FileNotFoundError):
            stock.faults.append(Fault(f"{INDEXES}/{name}", Kind.INDEX, NOT_AS_WRITTEN))
            continue
        for suffix, sha256 in one.files.items():
            file, needed = f"{INDEXES}/{stem}{suffix}", one.digest in live
            stock.want(Wanted(file, Kind.INDEX, sha256, owner=one.table, live=needed))
        if sidecar.is_plain(data):
            stock.unchecked[f"{INDEXES}/{name}"] = "it was written without a checksum"
