"""The catalog: a sealed, append-only list of generations; each says which table versions are live."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import (
    NothingFoundError,
    StoreConflictError,
    StoreCorruptError,
    StoreReadOnlyError,
    StoreVersionError,
)
from moe_retrieval.storage.places.small_files import small_sums
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.storage.places.place import Place

FORMAT = 2
"""Of a generation file. 2: it says what made it (`note`), and names the checksums of its tables (`sums`)."""

CATALOG = "catalog"
_NAME = re.compile(r"gen-(\d{8,})\.json")


@dataclass(frozen=True, slots=True)
class DomainEntry:
    """What one generation holds of one domain: a table at a version, and what its vectors were made with.

    `sums` names the list of checksums of the files of that table version; empty in stores of format 1.
    """

    table: str
    version: int
    rows: int
    documents: int
    digest: str
    fingerprint: str
    expert: str
    description: str = ""
    precision: str = "fp32"
    chunking: str = ""
    sums: str = ""


@dataclass(frozen=True, slots=True)
class Generation:
    """One state of the whole store. `seal` is the hash of the rest, `previous` the seal of the one before.

    `partial`: published in the middle of a run, so rows may lack an index and the router may be older.
    `note`: what made it, as in "index" or "rollback to 3". `files`: sha256 of small files (`small_files`).
    `calibration`: per domain, what makes its scores probabilities (`calibration.Calibration`); `tuning`: what
    was chosen on judged queries (`calibration.Tuning`). Both are small, so they lie in the generation itself.
    """

    number: int
    created: str
    model: Mapping[str, str]
    domains: Mapping[str, DomainEntry]
    router: str = ""
    previous: str = ""
    partial: bool = False
    note: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    calibration: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tuning: Mapping[str, Any] = field(default_factory=dict)
    seal: str = field(default="", compare=False)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Catalog:
    """The generations of a store. Any number of readers, one publisher at a time (the rest lose cleanly)."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.published = 0  # number of the last generation that was published through this object

    def numbers(self) -> list[int]:
        """Numbers of the generations there are, ascending."""
        return sorted(int(found[1]) for name in self.place.names(CATALOG) if (found := _NAME.fullmatch(name)))

    def latest(self) -> Generation | None:
        """The newest generation; None before the first.

        Raises:
            StoreCorruptError: the newest file is damaged; an empty one, never acknowledged, is set aside.
            StoreVersionError: a newer moeret wrote it.
        """
        for number in reversed(self.numbers()):
            # Only a power cut leaves an empty file: what was acknowledged was synced before it got its name.
            try:
                raw = self._raw(number)
            except NothingFoundError:
                return self.latest()  # `gc` took it since it was listed: there is a newer one
            if raw:
                return _parse(raw, name=name_of(number), number=number)
            with contextlib.suppress(StoreReadOnlyError):  # a reader that may not write passes over it
                self.place.set_aside(name_of(number))
        return None

    def read(self, number: int) -> Generation:
        """Generation `number`, its seal checked."""
        return _parse(self._raw(number), name=name_of(number), number=number)

    def history(self) -> list[Generation]:
        """All generations, oldest first, the chain of seals checked."""
        self.latest()
        found = [self.read(number) for number in self.numbers()]
        for older, newer in itertools.pairwise(found):
            if newer.number == older.number + 1 and newer.previous != older.seal:
                raise _damaged(name_of(newer.number), "it does not follow from the generation before it")
        return found

    def publish(
        self,
        domains: Mapping[str, DomainEntry],
        *,
        model: Mapping[str, str],
        router: str = "",
        created: str,
        partial: bool = False,
        note: str = "",
        calibration: Mapping[str, Mapping[str, Any]] | None = None,
        tuning: Mapping[str, Any] | None = None,
        after: int | None = None,
    ) -> Generation:
        """Make `domains` the newest generation, durably: when this returns, a power cut cannot take it back.

        `after`: number of the generation it was made from (0: none).

        Raises:
            StoreConflictError: another publisher took the number first; nothing was changed.
        """
        last = self.latest()
        number = last.number if last else 0
        if after not in (None, number):
            raise StoreConflictError(
                f"generation {number} was published while this work went on from generation {after}",
                hint="run it again",
            )
        draft = Generation(
            number=number + 1,
            created=created,
            model=dict(model),
            domains=dict(sorted(domains.items())),
            router=router,
            previous=last.seal if last else "",
            partial=partial,
            note=note,
            files=self._small_files(domains, last),
            calibration=dict(calibration or {}),
            tuning=dict(tuning or {}),
        )
        self.place.settle()  # the table files first: a generation must not outlive its rows
        if not self.place.put_if_absent(name_of(draft.number), _sealed(draft)):
            raise StoreConflictError(
                f"generation {draft.number} was published by another writer", hint="run it again"
            )
        self.published = draft.number
        return self.read(draft.number)

    def _small_files(self, domains: Mapping[str, DomainEntry], last: Generation | None) -> dict[str, str]:
        experts = {entry.expert for entry in domains.values()} - {GENERAL}
        return small_sums(self.place, experts, known=last.files if last else {})

    def _raw(self, number: int) -> bytes:
        try:
            return self.place.read(name_of(number))
        except FileNotFoundError as error:
            hint = f"the catalog holds generations {self.numbers()[-5:]}"
            raise NothingFoundError(f"there is no generation {number}", hint=hint) from error


def name_of(number: int) -> str:
    """The file of a generation, by its name in the store."""
    return f"{CATALOG}/gen-{number:08d}.json"


def _sealed(draft: Generation) -> bytes:
    body = _body(draft)
    return json.dumps({"format": FORMAT, "seal": _seal(body), "generation": body}, indent=1).encode()


def _body(generation: Generation) -> dict[str, Any]:
    body = generation.to_dict()
    del body["seal"]
    return body


def _seal(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _damaged(name: str, reason: str) -> StoreCorruptError:
    return StoreCorruptError(
        f"{name} is damaged: {reason}",
        hint="restore it from a copy, or move it away to go back one generation",
    )


def _parse(raw: bytes, *, name: str, number: int) -> Generation:
    try:
        outer = json.loads(raw)
        written = int(outer["format"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(name, "it is not a whole JSON object") from error
    if written > FORMAT:
        raise StoreVersionError(
            f"{name} has format {written}, this moeret reads up to {FORMAT}", hint="upgrade moeret"
        )
    try:
        body, seal = outer["generation"], outer["seal"]
        intact = _seal(body) == seal and body["number"] == number
    except (KeyError, TypeError, RecursionError) as error:
        raise _damaged(name, "parts of it are missing") from error
    if not intact:
        raise _damaged(name, "its seal does not match its content")
    return _generation(body, seal=seal, name=name)


def _generation(body: Mapping[str, Any], *, seal: str, name: str) -> Generation:
    try:
        domains = {one: DomainEntry(**_known(DomainEntry, entry)) for one, entry in body["domains"].items()}
        return Generation(**{**_known(Generation, body), "domains": domains, "seal": seal})
    except (TypeError, KeyError, AttributeError) as error:
        raise _damaged(name, "parts of it are missing") from error


def _known(kind: type[DomainEntry | Generation], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields this version knows: a later moeret of the same format may write more of them."""
    names = {part.name for part in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
