"""The power is cut in the middle of it: what was acknowledged is there, and the store opens by itself.

Runs where loop devices can be mounted (Linux, root). The long form cuts 100 times, in some ten minutes:

    python -m pytest -m slow tests/flows/test_power_cuts.py --basetemp=FOLDER

FOLDER/*/figures.json says what was cut and checked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from moe_retrieval import Store
from moe_retrieval.errors import MoeretError
from moe_retrieval.retrieval.pinned import EncoderChoice
from moe_retrieval.retrieval.retriever import Retriever
from moe_retrieval.types import Precision
from tests.flows.crash_checks import check_answer
from tests.flows.crash_corpus import queries
from tests.flows.crash_disk import Disk
from tests.flows.crash_experts import Models
from tests.flows.crash_reader import told
from tests.flows.crash_run import CrashRun


class PowerRun(CrashRun):
    """A store on a disk whose power is cut when the writer dies."""

    bounded = False  # rows that were not published yet may be lost with the power, and are encoded again

    def __init__(self, folder: Path, disk: Disk, *, models: Models, seed: int, durability: str) -> None:
        self.disk = disk
        store = disk.path / f"store-{seed}"
        super().__init__(folder, models=models, seed=seed, store=store, durability=durability)

    def die(self) -> None:
        assert self.writer is not None
        self.disk.freeze()
        self.writer.process.kill()  # before the thaw, so that it acknowledges nothing that is not on the copy
        self.disk.thaw()
        self.writer.kill()
        self.disk.power_up()

    def cut_once(self) -> None:
        """Cut, check, ask, and finish what was cut."""
        self.kill_once()
        self._ask()
        assert not self.run(self.next(), kill_after=None)

    def _ask(self) -> None:
        choice = EncoderChoice(
            model=str(self.models.base), precision=Precision.FP32, cache=self.models.graphs
        )
        retriever = Retriever(Store.open(self.store), choice=choice)
        for text in queries(5):
            check_answer(told(retriever.query(text, k=20)), self.seen[self.newest], self.vectors)
        retriever.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("loop devices can be mounted by root on Linux only")
    memory = Path("/dev/shm")  # noqa: S108 - cuts are of files that were copied, whatever holds them
    made = Disk(Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path)))
    try:
        try:
            made.make()
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"no loop device can be mounted here: {error}")
        yield made
    finally:
        made.take_away()
        shutil.rmtree(made.folder)


def cut(folder: Path, disk: Disk, models: Models, *, times: int, seed: int) -> PowerRun:
    """The life of one store with so many power cuts, everything checked after each."""
    run = PowerRun(folder, disk, models=models, seed=seed, durability="power")
    began = time.monotonic()
    try:
        run.begin()
        for _ in range(times):
            run.cut_once()
            run.figures.seconds = round(time.monotonic() - began, 1)
            (folder / "figures.json").write_text(json.dumps(run.figures.to_dict(), indent=1), "utf-8")
    finally:
        run.close()
    return run


def lost(folder: Path, disk: Disk, models: Models, *, times: int) -> int:
    """How many stores of so many lose something acknowledged, or do not open, where nothing is synced."""
    found = 0
    for seed in range(times):
        run = PowerRun(folder, disk, models=models, seed=seed, durability="process")
        try:
            run.begin()
            disk.write_back()  # so that only what comes now can be lost
            found += not _survives(run)
        finally:
            run.close()
    return found


def _survives(run: PowerRun) -> bool:
    try:
        run.cut_once()
    except (AssertionError, MoeretError):
        return False
    return True


def test_a_power_cut_loses_nothing_acknowledged(tmp_path: Path, disk: Disk, crash_models: Models) -> None:
    assert cut(tmp_path, disk, crash_models, times=1, seed=0).figures.kills.total() == 1


@pytest.mark.slow
def test_100_power_cuts_lose_nothing_acknowledged(tmp_path: Path, disk: Disk, crash_models: Models) -> None:
    assert cut(tmp_path, disk, crash_models, times=100, seed=1).figures.kills.total() == 100


@pytest.mark.slow
def test_the_cuts_are_real_ones(tmp_path: Path, disk: Disk, crash_models: Models) -> None:
    """Without syncs, most of them take something: a simulation that always loses nothing shows nothing."""
    assert lost(tmp_path, disk, crash_models, times=20) >= 10
