"""Queries after a run of the indexer use the encoder it loaded, as long as that is the one the store pins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moe_retrieval import Document, Moeret
from moe_retrieval.settings import Settings
from moe_retrieval.types import Precision

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [Document(f"d{at}", f"aspirin number {at} lowers the risk of stroke") for at in range(6)]


@pytest.fixture
def settings(tiny_model: Path, tmp_path: Path) -> Settings:
    return Settings(
        store=tmp_path / "store", model=str(tiny_model), precision=Precision.FP32, durability="process"
    )


def test_a_query_after_an_index_answers_as_that_of_a_new_process(settings: Settings) -> None:
    moeret = Moeret.open(settings=settings)
    moeret.index_documents(TEXTS, domain="cvd")
    answer = moeret.query("aspirin 3", mode="vector")
    assert answer == Moeret.open(settings=settings).query("aspirin 3", mode="vector")
    assert moeret.retriever.snapshot().encoder is moeret._writer


def test_an_encoder_of_another_precision_is_not_used(settings: Settings) -> None:
    moeret = Moeret.open(settings=settings)
    moeret.index_documents(TEXTS, domain="cvd")
    wrote = moeret._writer
    moeret.settings = settings.model_copy(update={"precision": Precision.BF16})
    assert moeret.retriever.snapshot().encoder is not wrote


def test_closing_lets_go_of_the_encoder(settings: Settings) -> None:
    moeret = Moeret.open(settings=settings)
    moeret.index_documents(TEXTS, domain="cvd")
    moeret.close()
    assert moeret._writer is None
