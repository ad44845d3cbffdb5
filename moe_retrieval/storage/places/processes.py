"""Which process this is, in words that another process of the same machine can check, and no other can."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_PROC = Path("/proc")


def this_machine() -> str:
    """A name for the running system and its table of processes: not the host's, which machines may share.

    Empty where the system does not tell.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        table = (_PROC / "self/ns/pid").readlink()
    except OSError:
        return ""
    return hashlib.sha256(f"{boot} {table}".encode()).hexdigest()[:16]


def this_process() -> str:
    """When this process started: a later one may have its number. Empty where the system does not tell."""
    return _state(os.getpid())[1]


def is_gone(*, machine: str, pid: int, process: str) -> bool:
    """Whether a process ended for certain: it was one of this machine, and is not there any more."""
    if not machine or not process or machine != this_machine():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # there, and not ours to look at
    state, started = _state(pid)
    return state in ("Z", "X") or (started != "" and started != process)


def _state(pid: int) -> tuple[str, str]:
    """The state of a process and the tick it started at; both empty where the system does not tell."""
    try:
        line = (_PROC / str(pid) / "stat").read_text(encoding="utf8", errors="replace")
    except OSError:
        return "", ""
    words = line.rpartition(")")[2].split()  # the name before it may hold anything
    return (words[0], words[19]) if len(words) > 19 else ("", "")
