"""A store, the tiny encoder and an indexer over both."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_retrieval import Encoder, Indexer, Store


@pytest.fixture(scope="session")
def encoder(tiny_model: Path) -> Encoder:
    return Encoder.load(tiny_model)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


@pytest.fixture
def indexer(store: Store, encoder: Encoder) -> Indexer:
    return Indexer(store, encoder=encoder)
