"""Free what no kept generation, no reader and no later run needs.

The order of the steps is what makes it safe. Generation files go first, and only then are the readers looked
at: one that registers later finds its generation gone and takes the newest. Their removal reaches the disk
before anything they named goes: after a power cut no generation has lost its rows. What is doomed is noted
before that: a table whose generations are gone must not be taken for one that a killed run left.
"""

from __future__ import annotations

import contextlib
import json
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import MoeretError, StoreCorruptError, StoreError, UsageError
from moe_retrieval.storage.catalog import name_of
from moe_retrieval.storage.maintenance import unneeded
from moe_retrieval.storage.maintenance.needs import Needs
from moe_retrieval.storage.maintenance.readers import Readers
from moe_retrieval.storage.maintenance.sweep import Kept, Kind, Removal, Sweep
from moe_retrieval.storage.places.marker import PROGRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store

KEEP = 3
_HOUR, _DAY = 3_600.0, 86_400.0
_DOOMED = f"{PROGRESS}/gc.json"


@dataclass(frozen=True, slots=True)
class GcReport:
    """What went, or with `dry_run` would go; numbers of the generations kept; and what else was kept, why."""

    generations: tuple[int, ...]
    removed: tuple[Removal, ...]
    kept: tuple[Kept, ...]
    bytes: int
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def collect(
    store: Store, *, keep: int = KEEP, dry_run: bool = False, clock: Callable[[], float] = time.time
) -> GcReport:
    """Keep the newest `keep` generations and those that are being read; remove what only others needed.

    Raises:
        UsageError: `keep` is below one.
        StoreError: a generation that is to be kept is damaged, or the newest cannot be opened: what others
            need may be of use then.
        StoreBusyError: another process is writing.
    """
    if keep < 1:
        raise UsageError(f"--keep is {keep}", hint="keep at least the newest generation: --keep 1")
    with nullcontext() if dry_run else store.lease():
        return _Collection(store, keep=keep, dry_run=dry_run, now=clock()).run()


class _Collection:
    """One run of `collect`, under the lease."""

    def __init__(self, store: Store, *, keep: int, dry_run: bool, now: float) -> None:
        self.store, self.place, self.dry_run, self.now = store, store.place, dry_run, now
        self.sweep = Sweep(store.place, dry_run=dry_run)
        self.readers = Readers(store.place)
        self.live = store.catalog.latest()
        self.all = _readable(store)
        self.kept = self._chosen(keep)
        _check_sound(store, self.live)

    def run(self) -> GcReport:
        going = {number: one for number, one in self.all.items() if number not in self.kept}
        doomed = self._doom(going.values())
        self._remove_generations(going)
        needs = reduce(Needs.__or__, map(Needs.of, self.kept.values()), Needs())
        for reading in self.readers.live(clear=not self.dry_run):
            needs |= reading.needs
        self._tables(needs, doomed=doomed)
        self._versions(needs)
        self._files(needs, pinned_before=_needs(going.values()).experts)
        self._drafts()
        return self._report()

    def _chosen(self, keep: int) -> dict[int, Generation]:
        """The generations to keep by number; what keeps the older ones is noted."""
        numbers = self.store.catalog.numbers()
        kept = {number: self.store.catalog.read(number) for number in numbers[-keep:]}
        for reading in self.readers.live(clear=not self.dry_run):
            if (found := self.all.get(reading.generation)) and found.number not in kept:
                kept[found.number] = found
                self.sweep.keep(f"generation {found.number}", f"read by {reading.who}")
        if not self.readers.known:
            kept |= self._perhaps_read(kept)
        return kept

    def _perhaps_read(self, kept: Mapping[int, Generation]) -> dict[int, Generation]:
        """Where readers leave no notes: generations that were the newest within the last hour."""
        found = {}
        for number, after in zip(sorted(self.all), sorted(self.all)[1:], strict=False):
            age = self.now - datetime.fromisoformat(self.all[after].created).timestamp()
            if number not in kept and age < _HOUR:
                found[number] = self.all[number]
                self.sweep.keep(f"generation {number}", "was the newest within the last hour: may be read")
        return found

    def _doom(self, going: Iterable[Generation]) -> set[str]:
        """Note the tables that only these generations name, beside those of a run that was killed."""
        kept = _needs(self.kept.values()).versions
        doomed = (_needs(going).versions.keys() | self._doomed_before()) - kept.keys()
        if doomed and not self.dry_run:
            self.place.replace(_DOOMED, json.dumps(sorted(doomed)).encode())
        return doomed

    def _doomed_before(self) -> set[str]:
        try:
            return {str(name) for name in json.loads(self.place.read(_DOOMED))}
        except (FileNotFoundError, ValueError, TypeError):
            return set()

    def _remove_generations(self, going: Iterable[int]) -> None:
        """Also those that cannot be read any more, but none newer than what is kept."""
        lost = {number for number in self.store.catalog.numbers() if number not in self.all}
        for number in sorted({*going, *(lost - self.kept.keys())}):
            self.sweep.files(Kind.GENERATION, str(number), [name_of(number)])
        if not self.dry_run:
            self.place.settle()

    def _tables(self, needs: Needs, *, doomed: set[str]) -> None:
        present = unneeded.tables(self.place)
        named = needs.versions.keys() | doomed
        loose = set(present) - named
        unfinished = unneeded.unfinished(self.place, loose, live=self.live, mending=not self.dry_run)
        for table in present:
            if table in unfinished:
                self.sweep.keep(f"table {table}", "a run that was killed left it: the next goes on with it")
            elif table not in needs.versions:
                self.sweep.table(table)
        if not self.dry_run:
            self.place.remove(_DOOMED)

    def _versions(self, needs: Needs) -> None:
        present = set(unneeded.tables(self.place))
        for table, versions in sorted(needs.versions.items()):
            if table in present:
                self.sweep.versions(table, needed=versions)

    def _files(self, needs: Needs, *, pinned_before: frozenset[str]) -> None:
        try:
            for expert in unneeded.experts(self.place, needs):
                self._expert(expert, pinned_before=expert in pinned_before)
        except StoreCorruptError as error:
            self.sweep.keep("experts", f"{error.message}; {error.hint}")
        for router in unneeded.routers(self.place, needs):
            self.sweep.files(Kind.ROUTER, router, [f"{unneeded.ROUTERS}/{router}"])
        for stem, names in unneeded.indexes(self.place, needs).items():
            self._index(stem, names)
        for name in unneeded.checksums(self.place, needs):
            self.sweep.files(Kind.CHECKSUMS, name, [name])
        tables = set(unneeded.tables(self.place))
        for name in self.place.names(PROGRESS):
            if name.startswith("d_") and name not in tables:
                self.sweep.files(Kind.NOTE, f"{PROGRESS}/{name}", [f"{PROGRESS}/{name}"])

    def _expert(self, expert: str, *, pinned_before: bool) -> None:
        """A run copies an expert some time before it pins it."""
        age = unneeded.age(self.place, f"{unneeded.EXPERTS}/{expert}", now=self.now)
        if (age is None and pinned_before) or (age is not None and age >= _DAY):
            self.sweep.tree(Kind.EXPERT, expert, f"{unneeded.EXPERTS}/{expert}")
        else:
            self.sweep.keep(f"expert {expert}", "less than a day old: a run may be about to pin it")

    def _index(self, stem: str, names: list[str]) -> None:
        """What has no description may be about to get it: queries build indexes, too."""
        young = any((unneeded.age(self.place, name, now=self.now) or 0) < _DAY for name in names)
        if f"{unneeded.INDEXES}/{stem}.json" in names or not young:
            self.sweep.files(Kind.INDEX, stem, names)

    def _drafts(self) -> None:
        for name in unneeded.drafts(self.place):
            if (unneeded.age(self.place, name, now=self.now) or 0) >= _DAY:
                self.sweep.either(Kind.TEMPORARY, name)
        for name in unneeded.damaged(self.place):
            self.sweep.keep(name, "was set aside as damaged")

    def _report(self) -> GcReport:
        removed = tuple(self.sweep.removed)
        weight = sum(one.bytes for one in removed)
        return GcReport(tuple(sorted(self.kept)), removed, tuple(self.sweep.kept), weight, self.dry_run)


def _readable(store: Store) -> dict[int, Generation]:
    """All generations that can be read, by number."""
    found = {}
    for number in store.catalog.numbers():
        with contextlib.suppress(MoeretError):
            found[number] = store.catalog.read(number)
    return found


def _needs(generations: Iterable[Generation]) -> Needs:
    return reduce(Needs.__or__, map(Needs.of, generations), Needs())


def _check_sound(store: Store, live: Generation | None) -> None:
    for domain, entry in live.domains.items() if live else ():
        try:
            store.view(entry)
        except StoreError as error:
            raise StoreError(
                f"domain {domain!r} cannot be opened, so nothing is removed: {error.message}",
                hint="moeret doctor says what is damaged; moeret rollback goes back to an older generation",
            ) from error
