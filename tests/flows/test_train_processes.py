"""Two processes train one model together, as torchrun starts them: they end with equal weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.program import ROOT

SCRIPT = """
import json, os, sys
from pathlib import Path
from moe_retrieval.model.source import open_source
from moe_retrieval.training import recipes
from moe_retrieval.training.material import TrainingPairs
from moe_retrieval.training.options import FitOptions, Recipe, TrainOptions
from moe_retrieval.training.trainer import is_first_process, processes
from tests.noisy_pairs import noisy_pairs

model, folder, recipe, chunk = Path(sys.argv[1]), Path(sys.argv[2]), Recipe(sys.argv[3]), int(sys.argv[4])
made = [noisy_pairs(domain, count=90) for domain in ("cvd", "skin")]
pairs = TrainingPairs(tuple(p for own in made for p in own[:60]), tuple(p for own in made for p in own[60:]))
fit = FitOptions(steps=6, evaluations=2, patience=0, bf16=False, device="cpu")
options = TrainOptions(
    recipe=recipe, rank=2, rate=3e-3, batch=8, chunk=chunk, shares=(0.5, 1.0), at_least=20, enforce=False,
    fit=fit,
)
told = []
shop = recipes.Workshop(
    open_source(model), pairs, ("cvd", "skin"), options, folder / "checkpoints",
    tell=lambda what, progress: told.append(progress.step),
)
outcome = recipes.run(shop)
sums = {name: weight.double().sum().item() for name, weight in outcome.model.state_dict().items()}
found = {
    "processes": processes(), "first": is_first_process(), "sums": sums, "told": len(told),
    "gains": [gain.after for gain in outcome.gains], "texts": outcome.courses[0].texts,
}
(folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(found))
"""


def together(model: Path, folder: Path, *words: str) -> list[dict[str, Any]]:
    """What each of two processes found."""
    script = folder / "script.py"
    script.write_text(SCRIPT, "utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, script, model, folder, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == ""
    return [json.loads((folder / f"rank-{rank}.json").read_text("utf-8")) for rank in (0, 1)]


@pytest.mark.parametrize(
    ("recipe", "chunk"),
    [
        ("joint", "3"),
        pytest.param("joint", "0", marks=pytest.mark.slow),
        pytest.param("expert", "0", marks=pytest.mark.slow),
        pytest.param("expert", "3", marks=pytest.mark.slow),
    ],
)
def test_two_processes_end_with_equal_weights(
    tiny_model: Path, tmp_path: Path, recipe: str, chunk: str
) -> None:
    one, other = together(tiny_model, tmp_path, recipe, chunk)
    assert (one["processes"], one["first"], other["first"]) == (2, True, False)
    assert one["sums"] == other["sums"]
    assert one["gains"] == other["gains"]
    assert one["told"] > 0
    assert other["told"] == 0  # the first process tells
    assert one["texts"] == other["texts"] == 2 * 6 * 8 * 2  # both take their turn at the plan
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
