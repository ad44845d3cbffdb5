"""Code of others may fail or hang; the one who called it goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from moe_retrieval.retrieval.refining.attempts import Outcome, attempt


def test_a_value_comes_back() -> None:
    assert attempt(lambda _over: 7, seconds=10) == Outcome(7)


def test_whatever_is_raised_becomes_one_line() -> None:
    def job(_over: threading.Event) -> int:
        raise KeyError("the first line\nthe second")

    found = attempt(job, seconds=10)
    assert found.value is None
    assert found.problem.startswith("failed: ")
    assert "\n" not in found.problem


def test_an_error_without_words_is_named() -> None:
    def job(_over: threading.Event) -> int:
        raise MemoryError

    assert attempt(job, seconds=10).problem == "failed: MemoryError"


def test_nobody_waits_longer_than_asked_and_the_job_hears_of_it() -> None:
    heard = threading.Event()

    def job(over: threading.Event) -> None:
        over.wait(30)
        heard.set()

    begun = time.monotonic()
    assert attempt(job, seconds=0.05).problem == "took longer than 0.05 s"
    assert time.monotonic() - begun < 10
    assert heard.wait(10)


GIVEN_UP = """
import time
from moe_retrieval.retrieval.refining.attempts import attempt

def job(over):
    over.wait(30)
    time.sleep(0.5)
    print("ended", flush=True)

attempt(job, seconds=0.01)
"""


def test_a_program_ends_after_the_attempt_that_it_gave_up() -> None:
    """Else torch, still computing when the interpreter goes, would abort it."""
    done = subprocess.run([sys.executable, "-c", GIVEN_UP], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
