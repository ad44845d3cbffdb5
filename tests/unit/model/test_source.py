"""A model folder is read, or refused with a sentence and a next step; nothing in it runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from moe_retrieval.engines.bundled import bundled_source, find_model
from moe_retrieval.errors import ChecksumError, ModelError
from moe_retrieval.model import surgery
from moe_retrieval.model.source import open_source
from tests.tiny_model import build_tiny_bert

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_tiny_bert(tmp_path / "model")


def change(path: Path, **fields: Any) -> None:
    said = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**said, **fields}))


def test_a_folder_says_its_sizes_pooling_and_limit(folder: Path) -> None:
    source = open_source(folder)
    assert (source.dim, source.layers, source.pooling, source.max_length, source.experts) == (
        32,
        2,
        "mean",
        32,
        ("general",),
    )


def test_without_a_said_limit_the_positions_are_the_limit(folder: Path) -> None:
    (folder / "sentence_bert_config.json").unlink()
    assert open_source(folder).max_length == 64


def test_a_limit_beyond_the_positions_is_cut_to_them(folder: Path) -> None:
    change(folder / "sentence_bert_config.json", max_seq_length=512)
    assert open_source(folder).max_length == 64


@pytest.mark.parametrize(
    ("said", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["mean"]}, "mean"),
    ],
)
def test_pooling_is_read_in_its_old_and_new_spelling(
    folder: Path, said: dict[str, Any], pooling: str
) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    assert open_source(folder).pooling == pooling


def test_prompts_of_sentence_transformers_are_read(folder: Path) -> None:
    change(folder / "config_sentence_transformers.json", prompts={"query": "query: ", "passage": "passage: "})
    assert dict(open_source(folder).prompts) == {"query": "query: ", "document": "passage: "}


def test_experts_and_domains_of_a_saved_model_are_read(folder: Path, tmp_path: Path) -> None:
    model = surgery.upcycle(folder)
    surgery.add_expert(model, "heart")
    surgery.assign(model, "cvd", "heart")
    source = open_source(surgery.save(model, tmp_path / "saved", like=folder))
    assert (source.experts, dict(source.domains), source.pooling) == (
        ("general", "heart"),
        {"cvd": "heart"},
        "mean",
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "gpt2"}, "'gpt2'"),
        ({"model_type": None}, "not supported"),
        ({"is_decoder": True}, "decoder"),
        ({"position_embedding_type": "relative_key"}, "relative"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"hidden_size": 10**12}, "hidden_size"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"hidden_act": ["gelu"]}, "hidden_act"),
        ({"layer_norm_eps": -1}, "layer_norm_eps"),
        ({"pad_token_id": 10_000}, "pad_token_id"),
        ({"experts": ["cvd"]}, "experts"),
        ({"experts": "general"}, "experts"),
        ({"domains": {"a": "b"}}, "domains"),
        ({"moe_layers": [7]}, "moe_layers"),
        ({"routing": "guess"}, "routing"),
    ],
)
def test_an_impossible_configuration_is_refused(folder: Path, fields: dict[str, Any], said: str) -> None:
    change(folder / "config.json", **fields)
    with pytest.raises(ModelError, match=said) as caught:
        open_source(folder)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, "\x00"])
@pytest.mark.parametrize("name", ["config.json", "sentence_bert_config.json"])
def test_a_damaged_json_file_is_refused(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ModelError) as caught:
        open_source(folder)
    assert caught.value.hint


@pytest.mark.parametrize("listed", ["{}", "[1]", '[{"type": "a.Dense", "path": ""}]', "x"])
def test_modules_that_are_not_known_are_refused(folder: Path, listed: str) -> None:
    (folder / "modules.json").write_text(listed)
    if listed == "{}":
        assert open_source(folder).pooling == "mean"
        return
    with pytest.raises(ModelError):
        open_source(folder)


@pytest.mark.parametrize("mode", ["max", "lasttoken", ["mean", "cls"]])
def test_an_unknown_pooling_is_refused(folder: Path, mode: object) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    with pytest.raises(ModelError, match="supported: mean, cls"):
        open_source(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        open_source(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        open_source(folder)


def test_code_beside_the_weights_is_never_run(folder: Path) -> None:
    """auto_map, kernels and quantizers are ways for a config.json to make transformers fetch or run code."""
    change(
        folder / "config.json",
        auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"},
        attn_implementation="someone/kernel",
        _attn_implementation="someone/kernel",
        quantization_config={"quant_method": "evil"},
    )
    (folder / "evil.py").write_text("raise SystemExit('the code ran')")
    model = surgery.upcycle(folder)
    assert model.config._attn_implementation == "sdpa"
    assert not hasattr(model.config, "quantization_config")


def test_weights_that_do_not_fit_are_refused(folder: Path) -> None:
    change(folder / "config.json", intermediate_size=96)
    with pytest.raises(ModelError, match=r"do not fit its config\.json"):
        surgery.upcycle(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, file)
    with pytest.raises(ModelError, match="do not fit"):
        surgery.upcycle(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        find_model(tmp_path / "nowhere")


def test_the_bundled_model_is_checked_before_it_is_read(folder: Path) -> None:
    with pytest.raises(ChecksumError, match="not the official"):
        bundled_source(folder)
