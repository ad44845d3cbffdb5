"""A fresh store per test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moe_retrieval.storage.store import Store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True, durable=False)
