"""One writer at a time: an exclusive lock on the store's `lock` file."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from moe_retrieval.errors import StoreBusyError
from moe_retrieval.storage.durability import file_faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_ASK_AGAIN = 0.05  # seconds


@contextlib.contextmanager
def hold(lock: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lease for the block. The lock is the kernel's, so that of a process that died is free at once.

    Raises:
        StoreBusyError: another process (or another lease of this one) still holds it after `wait` seconds;
            the message says which.
    """
    with file_faults("take the writer lease"):
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        if not _locked(handle, until=time.monotonic() + wait):
            raise StoreBusyError(
                f"another writer holds the store: {_holder(lock)}",
                hint="wait until it has finished (--wait SECONDS does that), then run it again",
            )
        with file_faults("take the writer lease"):
            _sign(handle)
        yield
    finally:
        os.close(handle)  # closing lets go of the lock


def _locked(handle: int, *, until: float) -> bool:
    while not _lock(handle):
        if time.monotonic() >= until:
            return False
        time.sleep(_ASK_AGAIN)
    return True


def _lock(handle: int) -> bool:
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(handle: int) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(note).encode(), 0)


def _holder(lock: Path) -> str:
    try:
        note = json.loads(lock.read_bytes())
        return f"process {note['pid']} on {note['host']}, since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not signed yet"
