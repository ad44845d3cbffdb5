"""Two machines whose locales differ work on one store: a document is the same for both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
"""Where Python takes the C locale at its word: names are ASCII, and all else in them is escaped."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with letters of several languages in their names, and one whose name is not UTF-8."""
    folder = tmp_path_factory.mktemp("locales") / "corpus"
    for name in (
        b"K\xc3\xb6rper/Stra\xc3\x9fe \xc4\xb0\xc4\xb1.txt",
        b"haut/\xc3\xa4.txt",
        b"haut/old\xe4.txt",
    ):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.write_text(f"fever and cough {len(name)}", "utf-8")
        except OSError:
            pytest.skip("this file system takes no names that are not UTF-8")
    return folder


def locale(name: str, letters: str, folder: Path) -> dict[str, str]:
    """The environment of a machine with a locale, made here; ASCII where it cannot be made."""
    tool = shutil.which("localedef")
    if tool is None:
        return ASCII
    made = subprocess.run(
        [tool, "-i", name, "-f", letters, f"{folder}/{name}.{letters}"], capture_output=True
    )
    if made.returncode > 1:  # 1: with warnings
        return ASCII
    return {"LOCPATH": str(folder), "LC_ALL": f"{name}.{letters}"}


def moeret(
    store: Path, model: Path, machine: dict[str, str], *words: str
) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    environment |= {"MOERET_STORE": str(store), "MOERET_MODEL": str(model), **machine}
    return subprocess.run([sys.executable, "-m", "moeret_cli", *words], capture_output=True, env=environment)


def test_what_one_machine_indexed_is_unchanged_for_another(
    tmp_path: Path, corpus: Path, tiny_model: Path
) -> None:
    german = locale("de_DE", "ISO-8859-1", tmp_path)
    turkish = locale("tr_TR", "UTF-8", tmp_path)
    for machine, unchanged in ((ASCII, 0), (german, 2)):
        words = ("index", str(corpus), "--prune", "--json")
        done = moeret(tmp_path / "store", tiny_model, machine, *words)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["documents"], report["unchanged"], report["rejected"]) == (2, unchanged, 1)
        assert (report["vanished"], set(report["domains"])) == (0, {"korper", "haut"})
    found = moeret(tmp_path / "store", tiny_model, turkish, "query", "fever", "--json")
    names = {Path(json.loads(line)["source"]).name for line in found.stdout.splitlines()}
    assert names == {"Straße İı.txt", "ä.txt"}
