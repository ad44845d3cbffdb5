"""What can be done with generations: list them, go back to one, rename a domain from one to the next."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moe_retrieval.calibration import Basis
from moe_retrieval.errors import MoeretError, NothingFoundError, StoreCorruptError, StoreError, UsageError
from moe_retrieval.retrieval import pinned
from moe_retrieval.retrieval.indexing import Indexing, build_indexes
from moe_retrieval.retrieval.routing import load_router
from moe_retrieval.storage.tables.table_files import manifests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.retrieval.pinned import EncoderChoice
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store

_SEE = "moeret history shows which generations can be gone back to"


@dataclass(frozen=True, slots=True)
class Past:
    """One generation of a store. `domains`: rows of each; `obstacle`: why it cannot be gone back to."""

    number: int
    created: str = ""
    note: str = ""
    model: str = ""
    domains: Mapping[str, int] | None = None
    partial: bool = False
    live: bool = False
    obstacle: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"domains": dict(self.domains or {}), "possible": not self.obstacle}


@dataclass(frozen=True, slots=True)
class Rollback:
    """From which generation to the content of which. `generation`: what is live now; `domains`: its rows."""

    before: int
    target: int
    generation: int
    domains: Mapping[str, int]
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def history(store: Store) -> tuple[Past, ...]:
    """All generations, newest last. Of what each needs it is looked whether it is there, not at its bytes.

    Raises:
        StoreCorruptError: the newest generation is damaged.
    """
    live = store.catalog.latest()
    here = _Present(store)
    found = [_past(store, number, here=here, live=live) for number in store.catalog.numbers()]
    return tuple(past for past in found if past is not None)


def roll_back(
    store: Store,
    choice: EncoderChoice,
    *,
    to: int | None = None,
    dry_run: bool = False,
    indexing: Indexing | None = None,
) -> Rollback:
    """Publish the content of an older generation again, as a new one; queries see it at once.

    Without `to` that is the newest generation before the live one whose content is another and that was not
    published in the middle of a run. What it needs is read and checked first; the next `index` goes on from
    it. Rolling back again takes it back.

    Raises:
        NothingFoundError: there is no such generation.
        UsageError: it holds what is live.
        StoreError: something that it needs is gone or damaged; which, is said.
        StoreBusyError: another process is writing.
    """
    with nullcontext() if dry_run else store.lease():
        live = live_generation(store)
        target = _target(store, live, to)
        _check_whole(store, target, choice)
        number = live.number
        if not dry_run:
            build_indexes(store, target.domains, indexing=indexing or Indexing())
            number = _published_again(store, target, live=live).number
    rows = {name: entry.rows for name, entry in target.domains.items()}
    return Rollback(live.number, target.number, number, rows, dry_run)


def live_generation(store: Store) -> Generation:
    """The newest generation.

    Raises:
        NothingFoundError: there is none yet.
    """
    live = store.catalog.latest()
    if live is None:
        raise NothingFoundError(f"{store.name} holds no documents", hint="moeret index PATH")
    return live


class _Present:
    """What of the store's parts is there, by their names alone."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.routers = set(store.place.names("routers"))
        self._versions: dict[str, set[int]] = {}

    def obstacle(self, generation: Generation) -> str:
        """What a generation lacks first; empty if nothing is seen to be missing."""
        for name, entry in generation.domains.items():
            if entry.version not in self.versions(entry.table):
                return f"version {entry.version} of table {entry.table} of domain {name} is gone"
        if generation.router and f"{generation.router}.safetensors" not in self.routers:
            return f"its router {generation.router[:12]} is gone"
        return ""

    def versions(self, table: str) -> set[int]:
        """The versions of a table that there are."""
        if table not in self._versions:
            self._versions[table] = {version for version, _ in manifests(self.store.place, table)}
        return self._versions[table]


def _past(store: Store, number: int, *, here: _Present, live: Generation | None) -> Past | None:
    """One line of the history; None if `gc` took the generation meanwhile."""
    try:
        found = store.catalog.read(number)
    except NothingFoundError:
        return None
    except StoreError as error:
        return Past(number, obstacle=error.message)
    return Past(
        number,
        created=found.created,
        note=found.note,
        model=found.model.get("name", ""),
        domains={name: entry.rows for name, entry in found.domains.items()},
        partial=found.partial,
        live=live is not None and number == live.number,
        obstacle=here.obstacle(found),
    )


def _target(store: Store, live: Generation, to: int | None) -> Generation:
    if to is not None:
        target = store.catalog.read(to)
        if _content(target) == _content(live):
            raise UsageError(f"generation {to} holds what is live", hint="moeret history")
        return target
    middle: Generation | None = None  # the newest that was published in the middle of a run
    for number in (one for one in reversed(store.catalog.numbers()) if one < live.number):
        older = store.catalog.read(number)
        if _content(older) != _content(live):
            if not older.partial:
                return older
            middle = middle or older
    if middle is None:
        raise NothingFoundError("no older generation holds anything else", hint="moeret history")
    return middle


def _content(generation: Generation) -> tuple[dict[str, Any], ...]:
    """What decides answers; lists of checksums, the router, and calibrations by the rows alone do not."""
    domains = {name: replace(entry, sums="") for name, entry in generation.domains.items()}
    judged = {name: one for name, one in generation.calibration.items() if one.get("basis") == Basis.JUDGED}
    return domains, dict(generation.model), judged, dict(generation.tuning)


def _check_whole(store: Store, target: Generation, choice: EncoderChoice) -> None:
    """Open all that a generation needs, and compare its rows with what was recorded."""
    try:
        for name, entry in target.domains.items():
            if store.view(entry).digest() != entry.digest:
                raise StoreCorruptError(f"the rows of domain {name!r} are not those that were published")
        load_router(store, target)
        pinned.pinned_encoder(store, target, _as_recorded(target, choice))
    except MoeretError as error:
        raise StoreError(
            f"cannot go back to generation {target.number}: {error.message}", hint=_SEE
        ) from error


def _as_recorded(target: Generation, choice: EncoderChoice) -> EncoderChoice:
    """The choice with the model and its settings as the generation has them; the model may lie elsewhere."""
    model = choice.model if choice.model and pinned.same_model(target, choice) else ""
    return replace(choice, model=model, max_length=0, query_prompt=None, document_prompt=None)


def _published_again(store: Store, target: Generation, *, live: Generation) -> Generation:
    return store.catalog.publish(
        target.domains,
        model=target.model,
        router=target.router,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        partial=target.partial,
        note=f"rollback to {target.number}",
        calibration=target.calibration,
        tuning=target.tuning,
        after=live.number,
    )
