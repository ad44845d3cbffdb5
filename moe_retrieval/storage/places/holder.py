"""Who writes to a store, told without touching the lock: to ask for it would be in a writer's way."""

from __future__ import annotations

import json
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.errors import MoeretError

if TYPE_CHECKING:
    from moe_retrieval.storage.places.place import Place

_LOCK = "lock"
_LOCKS = Path("/proc/locks")
_FLOCK = re.compile(r"\d+: FLOCK\s+ADVISORY\s+WRITE (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who signed the lease last. `held`: whether it is held now; None where the system does not tell."""

    pid: int
    host: str
    since: str
    held: bool | None
    gone: bool

    @property
    def who(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def holder_of(place: Place) -> Holder | None:
    """Who holds the lease of a store, or held it last; None where nobody has signed."""
    try:
        note = json.loads(place.read(_LOCK))
        pid, host, since = int(note["pid"]), str(note["host"]), str(note["since"])
        back = note.get("released") is True  # only a bucket's note says so
    except (OSError, MoeretError, ValueError, KeyError, TypeError, AttributeError):
        return None
    held = False if back else _held(place.local / _LOCK)
    return Holder(pid, host, since, held=held, gone=host == socket.gethostname() and not _lives(pid))


def _held(lock: Path) -> bool | None:
    try:
        lines, inode = _LOCKS.read_text(encoding="ascii", errors="replace").splitlines(), lock.stat().st_ino
    except OSError:
        return None
    return any(int(found[2]) == inode for line in lines if (found := _FLOCK.match(f"{line} ")))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # there, and not ours to signal
    return True
