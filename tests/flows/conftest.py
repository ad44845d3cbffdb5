"""Stores and programs that the flows share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.crash_experts import Models
from tests.program import ROOT, Done, Run, run_moeret


@pytest.fixture
def moeret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Run:
    """The program on the tiny model, in an empty folder, with a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOERET_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("MOERET_MODEL", str(tiny_model))
    return run_moeret


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The sample corpora indexed on the bundled encoder, and how that run ended."""
    store = tmp_path_factory.mktemp("sample") / "store"
    done = run_moeret("index", str(ROOT / "sample_corpora"), "--store", str(store), "--json")
    return store, done


@pytest.fixture(scope="session")
def crash_models(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Models:
    """The tiny model with an expert for each domain of the crash tests."""
    return Models.build(tiny_model, tmp_path_factory.mktemp("crash"), each=1)
