"""What all tests share: no network, one thread, a tiny model that is built once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MOERET_ENGINE"] = "torch"  # no graph is exported where engines are not the subject
from tests.tiny_model import build_tiny_bert

# A busy machine is slow, which says nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random BERT with 2 layers and 32 dimensions."""
    return build_tiny_bert(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(autouse=True)
def _settings_of_this_machine_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in [name for name in os.environ if name.startswith("MOERET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("MOERET_ENGINE", "torch")
    monkeypatch.setenv("MOERET_CACHE", str(tmp_path_factory.getbasetemp() / "graphs"))
