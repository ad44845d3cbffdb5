"""One writer at a time in a bucket: an object `lock`, taken, renewed and given back by conditional writes.

Whoever holds it renews it. It may be taken from a holder that has not renewed it for as long as its note
says, by the server's clock alone: those of the machines do not matter. On the machine of the holder it is
also free once that process is gone. A holder that lost it is told so at its next write; and what it wrote
until then is not published, because generations follow from each other (`Catalog.publish`).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import StoreBusyError, StoreConflictError, StoreError
from moe_retrieval.storage.places.processes import is_gone, this_machine, this_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.storage.places.objects import Objects, Stored

LOCK = "lock"
SECONDS = 60.0
"""Time without renewal after which the lease of a dead holder is free."""
_SLACK = 2.0
"""Servers give times in whole seconds."""
_ASK_AGAIN = 0.5


@dataclass(frozen=True, slots=True)
class Note:
    """What the lock says. `beat` changes with every renewal: no two contents of it are the same."""

    pid: int
    host: str
    since: str
    token: str
    seconds: float
    machine: str = ""
    process: str = ""
    beat: int = 0
    released: bool = False

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @property
    def holder(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@dataclass(slots=True)
class _Held:
    """The lease as this process holds it. `renewed`: when the last renewal that succeeded was begun."""

    note: Note
    tag: str
    renewed: float
    taker: str = ""
    ended: threading.Event = field(default_factory=threading.Event)


class ObjectLease:
    """The lease of one store in a bucket."""

    def __init__(self, objects: Objects, *, seconds: float = SECONDS) -> None:
        self._objects = objects
        self._seconds = seconds
        self._held: _Held | None = None
        self._probed: tuple[datetime, float] | None = None

    @contextlib.contextmanager
    def hold(self, *, wait: float = 0.0) -> Iterator[None]:
        """Hold the lease for the block; a thread renews it meanwhile.

        Raises:
            StoreBusyError: another process still holds it after `wait` seconds; the message says which.
            StoreError: the server takes conditional writes without looking at the condition.
        """
        held = self._take(wait)
        self._held = held
        renewer = threading.Thread(target=self._keep, args=(held,), name="moeret-lease", daemon=True)
        renewer.start()
        try:
            self._prove_conditions(held)
            yield
        finally:
            held.ended.set()
            renewer.join(timeout=5)
            self._held = None
            with contextlib.suppress(StoreError):  # then it ends by itself
                self._objects.update(LOCK, replace(held.note, released=True).to_bytes(), tag=held.tag)

    def check(self) -> None:
        """Nothing, if no lease was lost.

        Raises:
            StoreConflictError: another process took it over, or it could not be renewed in time.
        """
        held = self._held
        if held is None:
            return
        if _now() - held.renewed > 0.75 * self._seconds:  # asleep, or long without a network
            with contextlib.suppress(StoreError):
                self._renew(held)
        if held.taker:
            raise StoreConflictError(f"the store was taken over by {held.taker}", hint=_GO_ON)
        if (silent := _now() - held.renewed) > 0.75 * self._seconds:
            raise StoreConflictError(
                f"the writer lease could not be renewed for {silent:.0f} seconds", hint=_GO_ON
            )

    def _take(self, wait: float) -> _Held:
        until = _now() + wait
        while True:
            begun, note, found = _now(), self._note(), self._found()
            if tag := self._claim(note, found):
                return _Held(note, tag, begun)
            if found is not None and _now() >= until:
                raise _busy(_parse(found))
            time.sleep(min(_ASK_AGAIN, max(0.01, until - _now())))

    def _note(self) -> Note:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return Note(
            os.getpid(),
            socket.gethostname(),
            since,
            token=secrets.token_hex(16),
            seconds=self._seconds,
            machine=this_machine(),
            process=this_process(),
        )

    def _claim(self, note: Note, found: Stored | None) -> str | None:
        """The tag of the lock if it was free and is now ours."""
        if found is None:
            return self._objects.create(LOCK, note.to_bytes())
        if self._is_free(found):
            return self._objects.update(LOCK, note.to_bytes(), tag=found.tag)
        return None

    def _is_free(self, found: Stored) -> bool:
        note = _parse(found)
        if note.released or is_gone(machine=note.machine, pid=note.pid, process=note.process):
            return True
        return (self._server_time() - found.modified).total_seconds() > note.seconds + _SLACK

    def _server_time(self) -> datetime:
        """Now, by the server's clock: the time it gave to an object written to ask, and what passed since."""
        if self._probed is None or _now() - self._probed[1] > SECONDS:
            probe, at = f".{LOCK}.{secrets.token_hex(8)}.tmp", _now()
            self._objects.put(probe, b"")
            try:
                self._probed = self._objects.modified(probe), at
            finally:
                self._objects.remove([probe])
        when, at = self._probed
        return when + timedelta(seconds=_now() - at)

    def _found(self) -> Stored | None:
        try:
            return self._objects.load(LOCK)
        except FileNotFoundError:
            return None

    def _keep(self, held: _Held) -> None:
        """Renew the lease until it is given back or lost; a server out of reach is asked again."""
        while not held.taker and not held.ended.wait(self._seconds / 5):
            with contextlib.suppress(StoreError):
                self._renew(held)

    def _renew(self, held: _Held) -> None:
        begun = _now()
        note = replace(held.note, beat=held.note.beat + 1)
        tag = self._objects.update(LOCK, note.to_bytes(), tag=held.tag)
        if tag is not None:
            held.note, held.tag, held.renewed = note, tag, begun
            return
        found = self._found()
        seen = _parse(found) if found else None
        if found and seen and seen.token == note.token:  # a renewal whose answer was lost on the way
            held.note, held.tag = seen, found.tag
            return
        held.taker = seen.holder if seen else "somebody who deleted its lock"

    def _prove_conditions(self, held: _Held) -> None:
        """Both writes must be refused: a server that ignores their conditions would let two writers in."""
        data = held.note.to_bytes()
        made, changed = self._objects.create(LOCK, data), self._objects.update(LOCK, data, tag=_NO_TAG)
        if made is not None or changed is not None:
            raise StoreError(
                "the object store ignores If-None-Match or If-Match: it cannot keep two writers apart",
                hint="use one that has conditional writes, or a store in a folder",
            )


_GO_ON = "run it again: it goes on from the last generation"
_NO_TAG = '"00000000000000000000000000000000"'


def _now() -> float:
    """Seconds that pass while the machine sleeps, too, where the system counts those."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _parse(found: Stored) -> Note:
    """The note in a lock; one that cannot be read is somebody's all the same, for as long as ours."""
    try:
        values: dict[str, Any] = json.loads(found.data)
        names = {part.name for part in fields(Note)}
        return Note(**{name: value for name, value in values.items() if name in names})
    except (ValueError, TypeError, AttributeError):
        since = found.modified.isoformat(timespec="seconds")
        return Note(0, "a machine that signed illegibly", since, token="", seconds=SECONDS)


def _busy(note: Note) -> StoreBusyError:
    return StoreBusyError(
        f"another writer holds the store: {note.holder}",
        hint="wait until it has finished (--wait SECONDS does that), then run it again; "
        f"if that process died, its lease ends {note.seconds:.0f} seconds later",
    )
