"""A model with experts that the tests of evaluation share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moe_retrieval import Encoder
from moe_retrieval.model import surgery
from tests.tiny_model import build_tiny, different

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def expert_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model with experts for cvd and skin that differ."""
    folder = tmp_path_factory.mktemp("evaluated")
    tiny = build_tiny(folder / "tiny", "bert")
    model = different(surgery.upcycle(tiny), "cvd", "skin")
    for domain in ("cvd", "skin"):
        surgery.assign(model, domain, domain)
    return surgery.save(model, folder / "experts", like=tiny)


@pytest.fixture(scope="session")
def encoder(expert_model: Path) -> Encoder:
    return Encoder.load(expert_model, precision="fp32", engine="torch", device="cpu")
