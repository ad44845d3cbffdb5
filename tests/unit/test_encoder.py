"""Texts and a domain in, unit vectors out; the same whatever else is in the call."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moe_retrieval.encoder import Encoder
from moe_retrieval.errors import BadVectorError, ChecksumError, ModelError, ModelMismatchError, UsageError
from moe_retrieval.model import surgery
from moe_retrieval.types import Precision
from tests.tiny_model import build_tiny_bert, different

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [
    "heart attack risk",
    "skin",
    "",
    "a cell in the lung of the patient and the immune disease",
    "malaria drug dose",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bert(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def packs(tiny: Path) -> dict[str, Path]:
    """Exported experts of two domains."""
    folder = tiny.parent / "experts"
    model = different(surgery.upcycle(tiny), "cvd", "skin")
    return {name: folder / surgery.export_expert(model, name, folder) for name in ("cvd", "skin")}


@pytest.fixture(scope="module")
def encoder(tiny: Path, packs: dict[str, Path]) -> Encoder:
    return Encoder.load(tiny, experts=packs, precision=Precision.FP32, device="cpu")


def test_vectors_are_unit_float32_one_row_per_text(encoder: Encoder) -> None:
    vectors = encoder.encode_document(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), encoder.dim), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_the_mean_of_the_plain_models_tokens_is_what_comes_out(encoder: Encoder, tiny: Path) -> None:
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel

    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    ids = torch.tensor([tokenizer.encode("heart attack risk").ids])
    with torch.inference_mode():
        mean = BertModel.from_pretrained(tiny).eval()(input_ids=ids).last_hidden_state[0].mean(dim=0).numpy()
    np.testing.assert_allclose(
        encoder.encode_query(["heart attack risk"])[0], mean / np.linalg.norm(mean), atol=1e-6
    )


def test_a_vector_does_not_depend_on_the_other_texts(encoder: Encoder) -> None:
    together = encoder.encode_document(TEXTS * 30)[: len(TEXTS)]
    alone = np.concatenate([encoder.encode_document([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("domain", ["general", "cvd", "skin"])
def test_a_domain_is_encoded_by_its_own_expert(encoder: Encoder, tiny: Path, domain: str) -> None:
    model = different(surgery.upcycle(tiny), "cvd", "skin")
    import torch

    ids = torch.tensor([encoder._tokens.windows(["heart attack risk"])[0][0]])
    number = torch.tensor([surgery.expert_number(model, domain)])
    with torch.inference_mode():
        mean = model(input_ids=ids, expert_ids=number).last_hidden_state[0].mean(dim=0).numpy()
    found = encoder.encode_query(["heart attack risk"], domain=domain)[0]
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)


def test_another_domains_expert_gives_another_vector(encoder: Encoder) -> None:
    general, cvd, skin = (
        encoder.encode_query(["heart"], domain=name)[0] for name in ("general", "cvd", "skin")
    )
    assert max(general @ cvd, cvd @ skin, general @ skin) < 0.999


def test_a_domain_without_an_expert_uses_the_general_one(encoder: Encoder) -> None:
    assert encoder.expert_of("copd") == "general"
    assert np.array_equal(encoder.encode_query(["lung"], domain="copd"), encoder.encode_query(["lung"]))


def test_experts_inside_a_model_folder_equal_the_same_ones_as_packs(
    encoder: Encoder, tiny: Path, tmp_path: Path
) -> None:
    model = different(surgery.upcycle(tiny), "cvd", "skin")
    for name in ("cvd", "skin"):
        surgery.assign(model, name, name)
    inside = Encoder.load(surgery.save(model, tmp_path, like=tiny), device="cpu", precision=Precision.FP32)
    assert inside.domains == encoder.domains == ("cvd", "skin")
    for name in ("general", "cvd", "skin"):
        assert inside.expert_of(name) == encoder.expert_of(name)
        assert inside.fingerprint(name) == encoder.fingerprint(name)
        np.testing.assert_allclose(
            inside.encode_document(TEXTS, domain=name), encoder.encode_document(TEXTS, domain=name), atol=1e-6
        )


def test_empty_and_blank_texts_have_one_defined_vector(encoder: Encoder) -> None:
    vectors = encoder.encode_document(["", "  ", "\n"])
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors[0], vectors[2])


def test_no_texts_are_no_rows(encoder: Encoder) -> None:
    assert encoder.encode_query([]).shape == (0, encoder.dim)


def test_the_end_of_a_long_text_counts(encoder: Encoder) -> None:
    start = "heart " * 100
    ends = encoder.encode_document([start + "malaria worm " * 30, start + "skin light " * 30])
    assert ends[0] @ ends[1] < 0.9999


def test_a_long_text_is_the_mean_of_its_windows_weighted_by_tokens(encoder: Encoder) -> None:
    words = ["heart", "lung", "skin"] * 30  # 90 tokens in windows of at most 30
    parts = [" ".join(words[start : start + 30]) for start in (0, 30, 60)]
    mean = encoder.encode_document(parts).sum(axis=0)
    whole = encoder.encode_document([" ".join(words)])[0]
    np.testing.assert_allclose(whole, mean / np.linalg.norm(mean), atol=1e-5)


def test_progress_hears_of_every_text_once(encoder: Encoder) -> None:
    heard: list[int] = []
    encoder.encode_document([*TEXTS, "heart " * 500] * 40, progress=heard.append)
    assert sum(heard) == 240
    assert len(heard) > 1


def test_lone_surrogates_are_text_like_any_other(encoder: Encoder) -> None:
    assert np.isfinite(encoder.encode_document(["heart \ud800"])).all()


def test_prompts_are_put_before_queries_and_documents(tiny: Path, encoder: Encoder) -> None:
    prompted = Encoder.load(
        tiny, query_prompt="risk: ", document_prompt="drug: ", device="cpu", precision="fp32"
    )
    np.testing.assert_allclose(
        prompted.encode_query(["heart"]), encoder.encode_query(["risk: heart"]), atol=1e-6
    )
    np.testing.assert_allclose(
        prompted.encode_document(["heart"]), encoder.encode_query(["drug: heart"]), atol=1e-6
    )
    assert encoder.token_limit - prompted.token_limit == encoder.count_tokens("drug: ")


def test_a_chunk_of_the_token_limit_is_one_window(encoder: Encoder) -> None:
    assert encoder.token_limit == 30
    assert [len(encoder._tokens.windows(["heart " * count])[0]) for count in (30, 31)] == [1, 2]


def test_tokens_are_counted_without_special_ones(encoder: Encoder) -> None:
    assert encoder.count_many(["", "heart", "heart attack"]) == [0, 1, 2]


def test_cls_pooling_is_the_first_token(tiny: Path) -> None:
    means, firsts = (
        Encoder.load(tiny, pooling=how, device="cpu").encode_query(["heart"]) for how in ("mean", "cls")
    )
    assert not np.allclose(means, firsts)


def test_threads_that_use_different_domains_do_not_disturb_each_other(
    tiny: Path, packs: dict[str, Path]
) -> None:
    fresh = Encoder.load(tiny, experts=packs, precision=Precision.FP32, device="cpu")
    names = ["cvd", "skin", "general"] * 2
    got: dict[int, list[np.ndarray]] = {place: [] for place in range(len(names))}
    barrier = threading.Barrier(len(names))

    def work(place: int) -> None:
        barrier.wait()
        got[place] = [fresh.encode_document(TEXTS, domain=names[place]) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = Encoder.load(tiny, experts=packs, precision=Precision.FP32, device="cpu")
    for place, name in enumerate(names):
        wanted = alone.encode_document(TEXTS, domain=name)
        assert len(got[place]) == 5
        for vectors in got[place]:
            np.testing.assert_allclose(vectors, wanted, atol=1e-6)


def test_bf16_stays_close_to_fp32(tiny: Path, encoder: Encoder) -> None:
    half = Encoder.load(tiny, precision=Precision.BF16, device="cpu")
    assert half.precision is Precision.BF16
    assert (half.encode_document(TEXTS) * encoder.encode_document(TEXTS)).sum(axis=1).min() > 0.995


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_weights_are_not_answered_with_a_vector(tmp_path: Path, value: float) -> None:
    folder = build_tiny_bert(tmp_path / "damaged")
    from safetensors.torch import load_file, save_file

    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["encoder.layer.1.output.dense.bias"][0] = value
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadVectorError, match="text 0"):
        Encoder.load(folder, device="cpu").encode_query(["heart"])


def test_a_tampered_expert_is_refused_before_anything_is_encoded(tiny: Path, tmp_path: Path) -> None:
    sha = surgery.export_expert(different(surgery.upcycle(tiny), "cvd"), "cvd", tmp_path)
    file = tmp_path / sha / "expert.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(ChecksumError):
        Encoder.load(tiny, experts={"cvd": tmp_path / sha})


def test_an_expert_of_another_model_is_refused(packs: dict[str, Path], tmp_path: Path) -> None:
    other = build_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(ModelMismatchError):
        Encoder.load(other, experts=packs)


@pytest.mark.parametrize("length", [1, 7, 65, -3])
def test_an_impossible_length_is_refused(tiny: Path, length: int) -> None:
    with pytest.raises(UsageError, match="max_length"):
        Encoder.load(tiny, max_length=length)


def test_a_device_that_is_not_there_is_refused(tiny: Path) -> None:
    with pytest.raises(ModelError, match="cannot be used"):
        Encoder.load(tiny, device="teapot").encode_query(["heart"])


def test_an_unknown_pooling_is_refused(tiny: Path) -> None:
    with pytest.raises(ModelError, match="supported: mean, cls"):
        Encoder.load(tiny, pooling="max")


def test_fingerprints_and_counts_need_no_torch(tiny: Path, packs: dict[str, Path]) -> None:
    script = (
        "import sys; from pathlib import Path; from moe_retrieval.encoder import Encoder\n"
        "model, pack = map(Path, sys.argv[1:])\n"
        "encoder = Encoder.load(model, experts={'cvd': pack}, device='cpu')\n"
        "encoder.fingerprint('cvd'), encoder.count_tokens('heart'), encoder.token_limit\n"
        "encoder.model_identity(), encoder.precision, encoder.expert_of('cvd')\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", script, str(tiny), str(packs["cvd"])], check=False).returncode
        == 0
    )


def test_the_bundled_model_finds_the_paraphrase() -> None:
    encoder = Encoder.load(device="cpu", precision=Precision.FP32)
    assert (encoder.dim, encoder.max_length, encoder.token_limit) == (384, 256, 254)
    vectors = encoder.encode_query(
        [
            "Does aspirin prevent strokes?",
            "acetylsalicylic acid for stroke prevention",
            "the price of tea in China",
        ]
    )
    assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]
