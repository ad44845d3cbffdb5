"""Which generations are being read: a note per reader, locked for as long as its process lives.

`gc` takes away a generation's file first and looks at the notes then; a reader writes its note first and
looks for the file then. So one of the two sees the other, whatever the order of their steps. The lock is
the kernel's: a note that nobody locks is that of a process that died, and is cleared.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import weakref
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.storage.durability import file_faults
from moe_retrieval.storage.maintenance.needs import Needs
from moe_retrieval.storage.places.folder import Folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from moe_retrieval.storage.catalog import Catalog, Generation
    from moe_retrieval.storage.places.place import Place

FOLDER = "readers"
_NOTE = re.compile(r"(?P<number>\d+)\.[0-9a-f]+\.json")


class Hold:
    """One generation, kept from `gc` until this is closed or nothing refers to it any more."""

    def __init__(self, *, note: Path | None = None, handle: int | None = None) -> None:
        self.note = note
        self._release = weakref.finalize(self, _let_go, note, handle)

    def close(self) -> None:
        """Let go; a second time does nothing."""
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a live process reads: a generation, and what that needs."""

    generation: int
    needs: Needs
    who: str


class Readers:
    """The readers of one store. Only a folder has locks; readers of a bucket leave no notes."""

    def __init__(self, place: Place) -> None:
        self.folder = place.local / FOLDER if isinstance(place, Folder) and _locks() else None

    @property
    def known(self) -> bool:
        """Whether readers leave notes here at all."""
        return self.folder is not None

    def hold(self, generation: Generation) -> Hold:
        """Keep a generation from `gc`. Where no note can be written (a read-only store) nothing is kept."""
        if self.folder is None:
            return Hold()
        try:
            return _registered(self.folder, generation)
        except OSError:
            return Hold()  # to read must be possible where nothing can be written

    def live(self, *, clear: bool) -> list[Reading]:
        """What live processes read, oldest generation first; with `clear`, notes of dead ones are deleted.

        Raises:
            StoreCorruptError: the note of a live reader cannot be read.
        """
        if self.folder is None or not self.folder.is_dir():
            return []
        with file_faults("look at the readers"):
            names = [path for path in self.folder.iterdir() if _NOTE.fullmatch(path.name)]
            found = [reading for path in names if (reading := _reading(path, clear=clear)) is not None]
        return sorted(found, key=lambda one: (one.generation, one.who))


def hold_newest(catalog: Catalog) -> tuple[Generation, Hold] | None:
    """The newest generation, kept from `gc`; None before the first.

    Raises:
        StoreCorruptError: the newest generation is damaged.
    """
    readers = Readers(catalog.place)
    while (generation := catalog.latest()) is not None:
        hold = readers.hold(generation)
        if generation.number in catalog.numbers():
            return generation, hold
        hold.close()  # gc took it between the two steps: there is a newer one
    return None


def _locks() -> bool:
    try:
        import fcntl  # noqa: F401 - whether it is there is the question
    except ImportError:
        return False
    return True


def _registered(folder: Path, generation: Generation) -> Hold:
    """A note that has its name only once it is locked: none is taken for that of a dead process."""
    import fcntl

    folder.mkdir(exist_ok=True, mode=0o700)
    name = f"{generation.number:08d}.{secrets.token_hex(8)}.json"
    draft = folder / f".{name}.tmp"
    handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(handle, _note(generation))
        draft.rename(folder / name)
    except BaseException:
        draft.unlink(missing_ok=True)
        os.close(handle)
        raise
    return Hold(note=folder / name, handle=handle)


def _note(generation: Generation) -> bytes:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    return json.dumps({**who, "needs": Needs.of(generation).to_dict()}).encode()


def _let_go(note: Path | None, handle: int | None) -> None:
    if note is not None:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)
    if handle is not None:
        os.close(handle)


def _reading(note: Path, *, clear: bool) -> Reading | None:
    """What the reader of a note reads; None if it is gone or dead."""
    try:
        handle = os.open(note, os.O_RDWR)
    except FileNotFoundError:
        return None
    with _closing(handle):
        if not _is_locked(handle):
            if clear:
                note.unlink(missing_ok=True)
            return None
        return _parsed(note, os.pread(handle, 1 << 24, 0))


@contextlib.contextmanager
def _closing(handle: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(handle)


def _is_locked(handle: int) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _parsed(note: Path, raw: bytes) -> Reading:
    found = _NOTE.fullmatch(note.name)
    try:
        values = json.loads(raw)
        who = f"process {values['pid']} on {values['host']}, since {values['since']}"
        return Reading(int(found["number"]) if found else 0, Needs.from_dict(values["needs"]), who)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreCorruptError(
            f"the note of a reader, {note}, cannot be read",
            hint="end what reads the store, then run it again",
        ) from error
