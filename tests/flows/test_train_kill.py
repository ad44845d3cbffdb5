"""Killed at any moment, `moeret train` goes on where it was, and ends where an undisturbed training ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from moe_retrieval.training.checkpoints import last_whole
from tests.noisy_pairs import build_pretrained, write_pair_folder
from tests.program import run_moeret

WORDS = ("--steps", "120", "--batch", "16", "--rank", "0", "--rate", "0.005", "--patience", "0", "--json")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair_folder(tmp_path_factory.mktemp("pairs") / "made", "cvd")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return build_pretrained(tmp_path_factory.mktemp("base"), tiny_model)


@pytest.fixture
def store(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_store(tmp_path / "store", base, monkeypatch)


def make_store(store: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOERET_STORE", str(store))
    document = store.parent / f"{store.name}.txt"
    document.write_text("aspirin and stroke", "utf-8")
    done = run_moeret("index", document, "--domain", "skin", "--model", base, "-q")
    assert done.code == 0, done.err
    return store


def trained(pairs: Path) -> dict[str, Any]:
    done = run_moeret("train", "cvd", "--pairs", pairs, *WORDS)
    assert done.code == 0, done.err
    (told,) = done.records()
    return told


def start(pairs: Path, store: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"MOERET_STORE": str(store), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "moeret_cli", "train", "cvd", "--pairs", str(pairs), *WORDS]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def killed_after(process: subprocess.Popen[bytes], store: Path, seconds: float) -> None:
    """Kill a training so long after its first checkpoint is whole."""
    deadline = time.monotonic() + 120
    while not any(last_whole(place) for place in store.glob("training/*/cvd")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def assert_same_end(told: dict[str, Any], expected: dict[str, Any]) -> None:
    assert told["accepted"] == expected["accepted"] == ["cvd"]
    assert told["verdicts"][0]["after"] == pytest.approx(expected["verdicts"][0]["after"], abs=0.002)
    assert told["courses"][0]["steps"] == 120


def test_a_killed_training_ends_as_an_undisturbed_one(
    store: Path, base: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_after(start(pairs, store), store, 0.0)
    told = trained(pairs)
    make_store(tmp_path / "undisturbed", base, monkeypatch)
    assert_same_end(told, trained(pairs))
    assert not list((store / "training").iterdir())  # and nothing is left of the way


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_ten_trainings_killed_at_random_end_as_an_undisturbed_one(
    store: Path, base: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    draw = random.Random(seed)
    process = start(pairs, store)
    time.sleep(draw.uniform(2.0, 8.0))
    process.kill()
    process.communicate()
    told = trained(pairs)
    make_store(tmp_path / "undisturbed", base, monkeypatch)
    assert_same_end(told, trained(pairs))
