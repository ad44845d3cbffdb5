"""A digest covers exactly what decides a vector, whatever file it is read from."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from moe_retrieval.errors import ModelError
from moe_retrieval.model import surgery
from moe_retrieval.model.source import open_source
from moe_retrieval.model.weights import Digests, canonical_name, feed_forward_name
from tests.tiny_model import build_tiny_bert

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.model.bert import MoEBertModel


def of(folder: Path) -> Digests:
    return open_source(folder).digests()


def test_a_dense_folder_and_its_upcycled_folder_have_the_same_digests(tiny: Path, tmp_path: Path) -> None:
    saved = surgery.save(surgery.upcycle(tiny), tmp_path, like=tiny)
    assert of(saved) == of(tiny)


def test_a_folder_with_experts_in_some_layers_has_the_digests_of_the_dense_one(
    tiny: Path, tmp_path: Path
) -> None:
    saved = surgery.save(surgery.upcycle(tiny, moe_layers=[1]), tmp_path, like=tiny)
    assert of(saved) == of(tiny)


def test_memory_and_file_have_the_same_digests(experts: MoEBertModel, tiny: Path, tmp_path: Path) -> None:
    assert of(surgery.save(experts, tmp_path, like=tiny)) == surgery.digests(experts)


def test_one_changed_weight_of_an_expert_changes_only_its_digest(experts: MoEBertModel) -> None:
    before = surgery.digests(experts)
    experts.encoder.layer[1].experts[2].output["dense"].bias.data[0] += 1e-6
    after = surgery.digests(experts)
    assert before.trunk == after.trunk
    assert [old == new for old, new in zip(before.feed_forward, after.feed_forward, strict=True)] == [
        True,
        True,
        False,
    ]


def test_digests_written_as_text_are_read_back_as_they_were(experts: MoEBertModel) -> None:
    found = surgery.digests(experts)
    assert Digests.from_text(found.to_text()) == found


def test_remembered_digests_are_those_of_the_file_as_it_is_now(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("moe_retrieval.hashing._SETTLED", -1.0)  # remembered at once
    folder = shutil.copytree(tiny, tmp_path / "model")
    first = of(folder)
    assert list((tmp_path / "cache").rglob("hashes/*"))
    assert of(folder) == first
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1  # the last tensors are the pooler's, which no vector needs
    weights.write_bytes(data)
    assert of(folder) != first


@pytest.mark.parametrize("part", ["attention", "embeddings", "norm"])
def test_every_shared_tensor_is_trunk(experts: MoEBertModel, part: str) -> None:
    before = surgery.digests(experts)
    layer = experts.encoder.layer[0]
    weight = {
        "attention": layer.attention.self.query.weight,
        "embeddings": experts.embeddings.word_embeddings.weight,
        "norm": layer.output.LayerNorm.bias,
    }[part]
    weight.data.flatten()[0].add_(1e-3)
    after = surgery.digests(experts)
    assert before.trunk != after.trunk
    assert before.feed_forward == after.feed_forward


def test_other_random_weights_have_another_trunk(tiny: Path, tmp_path: Path) -> None:
    assert of(build_tiny_bert(tmp_path, seed=1)).trunk != of(tiny).trunk


def test_an_expert_of_some_layers_builds_on_generals_others(tiny: Path) -> None:
    digests = of(tiny)
    assert digests.without([0, 1]) == digests.trunk
    assert len({digests.without([0, 1]), digests.without([0]), digests.without([1])}) == 3


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("bert.encoder.layer.0.output.dense.bias", "encoder.layer.0.output.dense.bias"),
        ("bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"),
        ("embeddings.LayerNorm.beta", "embeddings.LayerNorm.bias"),
        ("embeddings.position_ids", None),
        ("pooler.dense.weight", None),
        ("cls.predictions.bias", None),
    ],
)
def test_old_and_prefixed_names_become_berts(name: str, canonical: str | None) -> None:
    assert canonical_name(name) == canonical


def test_the_attentions_output_is_not_a_feed_forward() -> None:
    assert feed_forward_name("encoder.layer.0.attention.output.dense.weight") is None


def test_a_cut_file_is_refused_in_a_sentence(tiny: Path, tmp_path: Path) -> None:
    folder = build_tiny_bert(tmp_path)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-10])
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        of(folder)
