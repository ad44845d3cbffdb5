"""Tiny models that the tests of this room share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tiny_model import build_tiny_bert, different

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.model.bert import MoEBertModel


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense model folder; do not write into it."""
    return build_tiny_bert(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def experts(tiny: Path) -> MoEBertModel:
    """Experts general, cvd and skin, all different."""
    from moe_retrieval.model import surgery

    return different(surgery.upcycle(tiny), "cvd", "skin")
