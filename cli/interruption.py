"""Ctrl-C in work that the next run goes on with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_CODE = 130


class InterruptedRun(Exception):  # noqa: N818 - no error: the user asked for it
    """Ctrl-C during a verb that keeps what it published."""


@contextmanager
def resumable() -> Iterator[None]:
    """Around work of which an interruption loses nothing."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise InterruptedRun from interrupt
