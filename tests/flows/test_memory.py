"""Memory does not grow with the corpus."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.program import ROOT


@pytest.mark.slow
def test_indexing_ten_times_as_much_takes_at_most_300_mb_more() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "index.py"), "memory", "--sizes", "5000,50000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    small, large = json.loads(done.stdout.splitlines()[-1])
    assert large["chunks"] >= 10 * small["chunks"] * 0.99
    assert large["peak_mb"] <= small["peak_mb"] + 300
