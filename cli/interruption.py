"""Ctrl-C and SIGTERM: both let a run keep what it has published; the second of them ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

EXIT_CODE = 130

_AGAIN = 0.02
"""Seconds after which a signal is heard again that came where nothing can be raised."""


class InterruptedRun(Exception):  # noqa: N818 - no error: the user asked for it
    """Ctrl-C or SIGTERM during a verb that keeps what it published."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: whoever keeps his work at a Ctrl-C keeps it here."""


@dataclass(slots=True)
class Heard:
    """Which signal came first; none: 0. `heeded`: those that are heard."""

    first: int = 0
    heeded: list[int] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as a shell has it."""
        return 128 + self.first if self.first else EXIT_CODE

    @property
    def word(self) -> str:
        return "terminated" if self.first == signal.SIGTERM else "interrupted"

    def hear(self, number: int, _frame: FrameType | None) -> None:
        """Raise in the main thread, once: the next signal is left to the system, which ends the process."""
        self.first = number
        for one in self.heeded:
            signal.signal(one, signal.SIG_DFL)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def hear_again(self) -> None:
        """The signal came while an object was finalised, and what it raised there was lost."""
        for one in self.heeded:
            signal.signal(one, self.hear)
        threading.Timer(_AGAIN, os.kill, (os.getpid(), self.first)).start()


@contextmanager
def heeding() -> Iterator[Heard]:
    """Heed the two signals for the length of a block; one that the process was told to ignore is ignored."""
    heard = Heard()
    before = {}
    if threading.current_thread() is threading.main_thread():  # no other may set a handler
        before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    for one, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            heard.heeded.append(one)
            signal.signal(one, heard.hear)
    elsewhere = sys.unraisablehook

    def unraised(lost: sys.UnraisableHookArgs) -> None:
        heard.hear_again() if isinstance(lost.exc_value, KeyboardInterrupt) else elsewhere(lost)

    sys.unraisablehook = unraised
    try:
        yield heard
    finally:
        sys.unraisablehook = elsewhere
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def resumable() -> Iterator[None]:
    """Around work of which an interruption loses nothing."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise InterruptedRun from interrupt
