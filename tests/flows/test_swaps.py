"""Generations are swapped under queries: no query fails, none sees two of them, and few are slower for it.

The swaps are made in another process, which publishes prepared tables: what a reindex computes costs the
processor, whatever the store does. Queries go on with what is open while the next generation is being opened.

The long form, a hundred swaps (three minutes):
    pytest -m slow tests/flows/test_swaps.py
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from moe_retrieval import Document, Moeret
from moe_retrieval.settings import load_settings
from tests.program import ROOT

THREADS = 4
DOMAINS = ("cvd", "skin", "ntd")
QUESTIONS = ("heart attack drug", "malaria worm fever", "skin sun tumour", "blood pressure dose 7", "lung 12")
MARKS = {0: "patient", 1: "disease"}
"""A word that is in every text of the even generations, and one of the odd."""


@dataclass
class Heard:
    """What the querying threads saw: seconds per query, generations, and what was wrong."""

    seconds: list[float] = field(default_factory=list)
    generations: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    @property
    def p99(self) -> float:
        return float(np.percentile(self.seconds, 99))


@pytest.fixture
def moeret(tmp_path: Path, tiny_model: Path) -> Moeret:
    """A store whose two generations hold the same documents with other texts, both with their indexes."""
    opened = Moeret.open(tmp_path / "store", settings=load_settings(model=str(tiny_model)).values)
    for number in (1, 2):
        opened.index_documents(
            Document(f"{domain}-{at}", f"{QUESTIONS[at % 5]} {MARKS[number % 2]} {at}", domain=domain)
            for domain in DOMAINS
            for at in range(200)
        )
    return opened


def ask(moeret: Moeret, until: threading.Event, heard: Heard, start: int) -> None:
    """Query after query until the event; one that fails or mixes is noted."""
    turn = start
    while not until.is_set():
        turn += 1
        began = time.perf_counter()
        try:
            answer = moeret.query(QUESTIONS[turn % len(QUESTIONS)], k=5)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test looks for
            heard.wrong.append(repr(error))
            continue
        heard.seconds.append(time.perf_counter() - began)
        heard.generations.add(answer.generation)
        mark = MARKS[answer.generation % 2]
        if len(answer.hits) != 5 or not all(mark in hit.text for hit in answer.hits):
            heard.wrong.append(f"generation {answer.generation}: {[hit.text for hit in answer.hits]}")


def under_queries(moeret: Moeret, work: subprocess.Popen[bytes]) -> Heard:
    """What four threads saw while a process was at work."""
    heard, over = Heard(), threading.Event()
    threads = [
        threading.Thread(target=ask, args=(moeret, over, heard, at), daemon=True) for at in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    code = work.wait()
    over.set()
    for thread in threads:
        thread.join()
    assert code == 0
    return heard


def swapping(moeret: Moeret, count: int, seconds: float) -> subprocess.Popen[bytes]:
    place = str(moeret.settings.store)
    command = [sys.executable, "-m", "tests.flows.swapper", place, str(count), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT)


def idling(seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])


def test_generations_are_swapped_under_queries(moeret: Moeret) -> None:
    moeret.query("heart")
    heard = under_queries(moeret, swapping(moeret, 5, 0.2))
    assert heard.wrong == []
    assert len(heard.generations) >= 3


def test_a_query_after_a_swap_sees_it(moeret: Moeret) -> None:
    for _ in range(3):
        before = moeret.query("heart").generation
        assert swapping(moeret, 1, 0.0).wait() == 0
        assert moeret.query("heart").generation == before + 1


@pytest.mark.slow
def test_a_hundred_swaps_make_the_slowest_queries_at_most_twice_as_slow(moeret: Moeret) -> None:
    moeret.query("heart")
    under_queries(moeret, idling(3.0))
    alone = under_queries(moeret, idling(30.0))
    swapped = under_queries(moeret, swapping(moeret, 100, 1.0))
    assert swapped.wrong == alone.wrong == []
    assert len(swapped.generations) > 90
    assert swapped.p99 <= 2 * alone.p99, (alone.p99, swapped.p99)
