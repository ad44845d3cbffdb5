"""Killed again and again in the middle of everything, with readers beside: nothing acknowledged is lost.

The long form kills 500 times, in some 20 minutes:

    python -m pytest -m slow tests/flows/test_many_kills.py --basetemp=FOLDER

FOLDER/*/figures.json says how far it is and, at the end, what was killed and checked.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.flows.crash_experts import Models
from tests.flows.crash_run import CrashRun


def killed(folder: Path, models: Models, *, times: int, seed: int) -> CrashRun:
    """A store whose writers were killed so often, everything checked after each kill."""
    run = CrashRun(folder, models=models, seed=seed)
    began = time.monotonic()
    try:
        run.begin(readers=2)
        for _ in range(times):
            run.kill_once()
            run.figures.seconds = round(time.monotonic() - began, 1)
            (folder / "figures.json").write_text(json.dumps(run.figures.to_dict(), indent=1), "utf-8")
    finally:
        run.close()
    return run


def test_kills_at_any_moment_lose_and_double_and_mix_nothing(tmp_path: Path, crash_models: Models) -> None:
    run = killed(tmp_path, crash_models, times=6, seed=0)
    assert run.figures.kills.total() == 6
    assert run.figures.answers


@pytest.mark.slow
def test_500_kills_lose_and_double_and_mix_nothing(tmp_path: Path, tiny_model: Path) -> None:
    models = Models.build(tiny_model, tmp_path / "models", each=2)
    run = killed(tmp_path, models, times=500, seed=1)
    assert run.figures.kills.total() == 500
    assert run.figures.answers > 1_000
