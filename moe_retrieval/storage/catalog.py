"""The catalog: a sealed, append-only list of generations; each says which table versions are live."""

from __future__ import annotations

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
    StoreVersionError,
)
from moe_retrieval.storage.durability import file_faults, put_if_absent, sync_filesystem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = 1
_NAME = re.compile(r"gen-(\d{8,})\.json")


@dataclass(frozen=True, slots=True)
class DomainEntry:
    """What one generation holds of one domain: a table at a version, and what its vectors were made with."""

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


@dataclass(frozen=True, slots=True)
class Generation:
    """One state of the whole store. `seal` is the hash of the rest, `previous` the seal of the one before.

    `partial`: published in the middle of a run, so rows may lack an index and the router may be older.
    """

    number: int
    created: str
    model: Mapping[str, str]
    domains: Mapping[str, DomainEntry]
    router: str = ""
    previous: str = ""
    partial: bool = False
    seal: str = field(default="", compare=False)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Catalog:
    """The generations in a folder. Any number of readers, one publisher at a time (the rest lose cleanly)."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder
        self.durable = durable

    def numbers(self) -> list[int]:
        """Numbers of the generations on disk, ascending."""
        with file_faults("list the catalog"):
            names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))

    def latest(self) -> Generation | None:
        """The newest generation; None before the first.

        Raises:
            StoreCorruptError: the newest file is damaged; an empty one, never acknowledged, is set aside.
            StoreVersionError: a newer moeret wrote it.
        """
        for number in reversed(self.numbers()):
            if not self._set_aside_if_empty(number):
                return self.read(number)
        return None

    def read(self, number: int) -> Generation:
        """Generation `number`, its seal checked."""
        path = self._path(number)
        try:
            raw = path.read_bytes()
        except FileNotFoundError as error:
            hint = f"the catalog holds generations {self.numbers()[-5:]}"
            raise NothingFoundError(f"there is no generation {number}", hint=hint) from error
        except OSError as error:
            raise StoreCorruptError(
                f"{path} cannot be read: {error.strerror}", hint="check the disk"
            ) from error
        return _parse(raw, path=path, number=number)

    def history(self) -> list[Generation]:
        """All generations, oldest first, the chain of seals checked."""
        self.latest()
        found = [self.read(number) for number in self.numbers()]
        for older, newer in itertools.pairwise(found):
            if newer.number == older.number + 1 and newer.previous != older.seal:
                raise _damaged(self._path(newer.number), "it does not follow from the generation before it")
        return found

    def publish(
        self,
        domains: Mapping[str, DomainEntry],
        *,
        model: Mapping[str, str],
        router: str = "",
        created: str,
        partial: bool = False,
    ) -> Generation:
        """Make `domains` the newest generation, durably: when this returns, a power cut cannot take it back.

        Raises:
            StoreConflictError: another publisher took the number first; nothing was changed.
        """
        last = self.latest()
        draft = Generation(
            number=last.number + 1 if last else 1,
            created=created,
            model=dict(model),
            domains=dict(sorted(domains.items())),
            router=router,
            previous=last.seal if last else "",
            partial=partial,
        )
        body = _body(draft)
        data = json.dumps({"format": FORMAT, "seal": _seal(body), "generation": body}, indent=1).encode()
        with file_faults(f"publish generation {draft.number}"):
            if self.durable:
                sync_filesystem(self.folder)  # the table files first: a generation must not outlive its rows
            created_file = put_if_absent(self._path(draft.number), data, durable=self.durable)
        if not created_file:
            raise StoreConflictError(
                f"generation {draft.number} was published by another writer", hint="run it again"
            )
        return self.read(draft.number)

    def _path(self, number: int) -> Path:
        return self.folder / f"gen-{number:08d}.json"

    def _set_aside_if_empty(self, number: int) -> bool:
        # Only a power cut leaves an empty file: what was acknowledged had been synced before it got its name.
        path = self._path(number)
        with file_faults(f"set the empty {path.name} aside"):
            if path.stat().st_size > 0:
                return False
            try:
                path.rename(path.with_suffix(".json.damaged"))
            except PermissionError:
                return True  # a reader without write permission passes over it
        return True


def _body(generation: Generation) -> dict[str, Any]:
    body = generation.to_dict()
    del body["seal"]
    return body


def _seal(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _damaged(path: Path, reason: str) -> StoreCorruptError:
    return StoreCorruptError(
        f"{path} is damaged: {reason}",
        hint="restore it from a copy, or move it away to go back one generation",
    )


def _parse(raw: bytes, *, path: Path, number: int) -> Generation:
    try:
        outer = json.loads(raw)
        written = int(outer["format"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, "it is not a whole JSON object") from error
    if written > FORMAT:
        raise StoreVersionError(
            f"{path} has format {written}, this moeret reads up to {FORMAT}", hint="upgrade moeret"
        )
    try:
        body, seal = outer["generation"], outer["seal"]
        intact = _seal(body) == seal and body["number"] == number
    except (KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, "parts of it are missing") from error
    if not intact:
        raise _damaged(path, "its seal does not match its content")
    return _generation(body, seal=seal, path=path)


def _generation(body: Mapping[str, Any], *, seal: str, path: Path) -> Generation:
    try:
        domains = {name: DomainEntry(**_known(DomainEntry, entry)) for name, entry in body["domains"].items()}
        return Generation(**{**_known(Generation, body), "domains": domains, "seal": seal})
    except (TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, "parts of it are missing") from error


def _known(kind: type[DomainEntry | Generation], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields this version knows: a later moeret of the same format may write more of them."""
    names = {part.name for part in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
