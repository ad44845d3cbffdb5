"""Code of others, run so that an answer does not depend on it: it may fail, and it may take too long."""

from __future__ import annotations

import atexit
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")

LAST_WAIT = 30.0
"""Seconds that the end of the program waits for an attempt that was given up: torch aborts the process where
it still computes when the interpreter goes.
"""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Value]):
    """What came of an attempt: a value, or the problem in words."""

    value: Value | None = None
    problem: str = ""


def attempt(job: Callable[[threading.Event], Value], *, seconds: float) -> Outcome[Value]:
    """What `job` gives within so many seconds.

    It runs in a thread of its own, which nobody waits for once the time is over, except the end of the
    program, a little: the event it is given is set then, so that it may end.
    """
    future: Future[Value] = Future()
    over = threading.Event()
    thread = threading.Thread(target=_run, args=(job, over, future), daemon=True, name="moeret-attempt")
    thread.start()
    try:
        error = future.exception(timeout=seconds)
    except TimeoutError:
        atexit.register(thread.join, LAST_WAIT)
        return Outcome(problem=f"took longer than {seconds:g} s")
    finally:
        over.set()
    if error is not None:
        said = str(error).strip().partition("\n")[0]
        return Outcome(problem=f"failed: {said or type(error).__name__}")
    return Outcome(future.result())


def _run(job: Callable[[threading.Event], Value], over: threading.Event, future: Future[Value]) -> None:
    try:
        future.set_result(job(over))
    except Exception as error:  # noqa: BLE001 - not our code: whatever it raises, the answer goes on without
        future.set_exception(error)
    finally:
        atexit.unregister(threading.current_thread().join)
