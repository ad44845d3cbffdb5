"""What the documentation shows is what the program says and does."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import ROOT, Done


def test_the_page_of_the_command_line_is_what_help_says() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_cli.py"))["page"]()
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf8") == made


def test_the_page_of_the_command_line_has_every_verb() -> None:
    from moeret_cli.verbs import app

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf8")
    names = [one.name for one in (*app.registered_commands, *app.registered_groups)]
    assert len(names) > 10
    assert [name for name in names if f"## moeret {name}\n" not in page] == []


@pytest.mark.parametrize("place", [0, 1])
def test_the_readmes_python_runs_as_it_stands(
    place: int, sample_store: tuple[Path, Done], tmp_path: Path
) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf8"), re.DOTALL)[
        place
    ]
    (tmp_path / ".moeret").symlink_to(sample_store[0])
    (tmp_path / "sample_corpora").symlink_to(ROOT / "sample_corpora")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"0": "aspirin-low-dose", "1": "Answer the question from the sources"}[str(place)] in done.stdout


def test_the_readme_names_every_verb() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf8")
    verbs = [
        "index",
        "query",
        "context",
        "reindex",
        "status",
        "domains",
        "doctor",
        "model",
        "pairs",
        "train",
        "evaluate",
        "route",
        "tune",
        "cite",
    ]
    assert [verb for verb in verbs if f"moeret {verb}" not in text] == []
