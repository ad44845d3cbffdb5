"""MTEB's protocol: batches in, vectors and cosines out; without mteb, for it is not ours to need."""

from __future__ import annotations

import inspect
import sys
from enum import StrEnum
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moe_retrieval import Encoder
from moe_retrieval.errors import UsageError
from moe_retrieval.integrations.mteb import MtebEncoder
from moe_retrieval.model import surgery
from tests.tiny_model import build_tiny, different

if TYPE_CHECKING:
    from pathlib import Path

TASK = SimpleNamespace(name="MadeTask")
BATCHES = [{"text": ["aspirin", "heart attack"], "title": ["", ""]}, {"text": ["skin cell"]}]
TEXTS = ["aspirin", "heart attack", "skin cell"]


class PromptType(StrEnum):
    """As MTEB has it."""

    query = "query"
    document = "document"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder: Path = tmp_path_factory.mktemp("mteb")
    tiny = build_tiny(folder / "tiny", "bert")
    model = different(surgery.upcycle(tiny), "cvd")
    surgery.assign(model, "cvd", "cvd")
    saved = surgery.save(model, folder / "saved", like=tiny)
    return Encoder.load(saved, precision="fp32", engine="torch", device="cpu", query_prompt="risk of ")


def encoded(model: MtebEncoder, prompt_type: PromptType | None, **more: object) -> np.ndarray:
    return model.encode(
        iter(BATCHES),
        task_metadata=TASK,
        hf_split="test",
        hf_subset="default",
        prompt_type=prompt_type,
        **more,
    )


def test_queries_and_documents_get_their_prompts_and_the_domains_expert(encoder: Encoder) -> None:
    model = MtebEncoder(encoder, domain="cvd")
    queries = encoder.encode_query(TEXTS, domain="cvd")
    documents = encoder.encode_document(TEXTS, domain="cvd")
    np.testing.assert_allclose(encoded(model, PromptType.query), queries, atol=1e-6)
    np.testing.assert_allclose(encoded(model, PromptType.document), documents, atol=1e-6)
    np.testing.assert_allclose(encoded(model, None), documents, atol=1e-6)
    assert np.abs(queries - documents).max() > 0.01
    assert np.abs(encoded(MtebEncoder(encoder), None) - documents).max() > 0.01


def test_what_mteb_passes_on_to_others_is_passed_over(encoder: Encoder) -> None:
    found = encoded(MtebEncoder(encoder), None, batch_size=1, show_progress_bar=False, precision="float32")
    assert found.shape == (3, 32)
    assert found.dtype == np.float32


def test_the_parameters_are_those_of_the_protocol() -> None:
    names = list(inspect.signature(MtebEncoder.encode).parameters)
    assert names[1:6] == ["inputs", "task_metadata", "hf_split", "hf_subset", "prompt_type"]
    for name in ("similarity", "similarity_pairwise"):
        assert list(inspect.signature(getattr(MtebEncoder, name)).parameters)[1:] == [
            "embeddings1",
            "embeddings2",
        ]


def test_no_batches_give_no_vectors(encoder: Encoder) -> None:
    found = MtebEncoder(encoder).encode([], task_metadata=TASK, hf_split="test", hf_subset="default")
    assert found.shape == (0, 32)


def test_inputs_without_text_are_refused(encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="MadeTask has inputs without text: image"):
        MtebEncoder(encoder).encode(
            [{"image": [1]}], task_metadata=TASK, hf_split="test", hf_subset="default"
        )


def test_similarities_are_cosines_of_vectors_of_any_length(encoder: Encoder) -> None:
    model = MtebEncoder(encoder)
    one, other = np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 5.0]])
    np.testing.assert_allclose(model.similarity(one, other), [[0.6, 0.8], [0, 1]], atol=1e-6)
    np.testing.assert_allclose(model.similarity_pairwise(one, other), [0.6, 1], atol=1e-6)
    np.testing.assert_allclose(model.similarity(one[0], other), [[0.6, 0.8]], atol=1e-6)
    assert model.similarity_pairwise(np.zeros((1, 2)), other[:1]).tolist() == [0]


def test_vectors_of_torch_are_taken_too(encoder: Encoder) -> None:
    import torch

    found = MtebEncoder(encoder).similarity(torch.eye(2), torch.eye(2))
    np.testing.assert_array_equal(found, np.eye(2))


def test_the_description_asks_for_mteb_alone(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(UsageError, match="pip install mteb"):
        _ = MtebEncoder(encoder).mteb_model_meta
    assert encoded(MtebEncoder(encoder), None).shape == (3, 32)


def test_the_description_tells_experts_apart(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    described = SimpleNamespace(
        ModelMeta=SimpleNamespace(create_empty=lambda overwrites: overwrites),
        ScoringFunction=SimpleNamespace(COSINE="cosine"),
    )
    for name in ("mteb", "mteb.models", "mteb.models.model_meta"):
        monkeypatch.setitem(sys.modules, name, described)
    general, cvd = (MtebEncoder(encoder, domain=domain).mteb_model_meta for domain in ("general", "cvd"))
    assert (general["name"], cvd["name"]) == ("moeret/saved-general", "moeret/saved-cvd")
    assert cvd["revision"] == encoder.fingerprint("cvd") != general["revision"]
    assert (cvd["embed_dim"], cvd["max_tokens"], cvd["use_instructions"]) == (32, 32, True)
