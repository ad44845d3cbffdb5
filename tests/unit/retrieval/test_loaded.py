"""Queries after a run of the indexer use the encoder it loaded, as long as that is the one the store pins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moe_retrieval import Document, Moeret
from moe_retrieval.model.surgery import export_expert, upcycle
from moe_retrieval.settings import Settings
from moe_retrieval.types import Precision
from tests.tiny_model import different

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


def test_a_second_run_writes_with_the_encoder_of_the_first(settings: Settings) -> None:
    moeret = Moeret.open(settings=settings)
    moeret.index_documents(TEXTS[:3], domain="cvd")
    wrote = moeret._writer
    moeret.index_documents(TEXTS[3:], domain="copd")
    assert moeret._writer is wrote
    assert {hit.domain for hit in moeret.query("aspirin", domains=["cvd", "copd"]).hits} == {"cvd", "copd"}


def test_a_run_after_another_process_published_a_changed_expert_loads_it(
    settings: Settings, tiny_model: Path, tmp_path: Path
) -> None:
    moeret = Moeret.open(settings=settings)
    moeret.index_documents(TEXTS[:3], domain="cvd")
    wrote = moeret._writer
    other = Moeret.open(settings=settings)
    model = different(upcycle(tiny_model), "cvd")
    other.register_expert("cvd", tmp_path / "packs" / export_expert(model, "cvd", tmp_path / "packs"))
    other.reindex()
    moeret.index_documents(TEXTS[3:], domain="cvd")
    assert moeret._writer is not wrote
    assert len(moeret.query("aspirin", mode="vector").hits) == len(TEXTS)
