"""Experts come and go; what was not touched stays to the byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from moe_retrieval.errors import ChecksumError, ModelError, ModelMismatchError, UsageError
from moe_retrieval.model import surgery
from tests.tiny_model import build_tiny_bert, different

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.model.bert import MoEBertModel

IDS = torch.arange(5, 29).view(4, 6)


def hidden(model: torch.nn.Module, expert: int | None = None) -> torch.Tensor:
    chosen = {} if expert is None else {"expert_ids": torch.full((4,), expert)}
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=IDS, **chosen).last_hidden_state
    return out


@pytest.mark.parametrize("moe_layers", [None, [1]])
def test_an_upcycled_model_computes_what_the_dense_one_does(tiny: Path, moe_layers: list[int] | None) -> None:
    from transformers import BertModel

    dense = BertModel.from_pretrained(tiny).eval()
    for given in (dense, tiny):
        assert torch.equal(hidden(surgery.upcycle(given, moe_layers=moe_layers)), hidden(dense))


def test_upcycling_shares_no_memory_with_the_dense_model(tiny: Path) -> None:
    from transformers import BertModel

    dense = BertModel.from_pretrained(tiny).eval()
    before = hidden(dense)
    for weight in surgery.upcycle(dense).parameters():
        weight.data.zero_()
    assert torch.equal(hidden(dense), before)


def test_a_new_expert_starts_as_its_source_and_apart_from_it(experts: MoEBertModel) -> None:
    surgery.add_expert(experts, "lung", source="cvd")
    assert torch.equal(hidden(experts, 3), hidden(experts, 1))
    experts.encoder.layer[0].experts[3].output["dense"].weight.data.zero_()
    assert not torch.equal(hidden(experts, 3), hidden(experts, 1))


def test_dropping_an_expert_leaves_the_others_and_frees_its_domains(experts: MoEBertModel) -> None:
    surgery.assign(experts, "stroke", "cvd")
    surgery.assign(experts, "melanoma", "skin")
    skin = hidden(experts, 2)
    surgery.drop_expert(experts, "cvd")
    assert torch.equal(hidden(experts, surgery.number_of_domain(experts, "melanoma")), skin)
    assert surgery.number_of_domain(experts, "stroke") == 0


def test_assigning_general_takes_the_domain_back(experts: MoEBertModel) -> None:
    surgery.assign(experts, "stroke", "cvd")
    surgery.assign(experts, "stroke", "general")
    assert experts.config.domains == {}


def test_impossible_surgery_is_refused(experts: MoEBertModel) -> None:
    with pytest.raises(UsageError, match="already"):
        surgery.add_expert(experts, "cvd")
    with pytest.raises(UsageError, match="did you mean 'cvd'"):
        surgery.assign(experts, "stroke", "cvdd")
    with pytest.raises(UsageError, match="general expert"):
        surgery.drop_expert(experts, "general")


def test_a_saved_model_comes_back_with_its_experts_and_domains(
    experts: MoEBertModel, tiny: Path, tmp_path: Path
) -> None:
    surgery.assign(experts, "stroke", "cvd")
    again = surgery.load(surgery.save(experts, tmp_path, like=tiny))
    assert (again.config.experts, again.config.domains) == (["general", "cvd", "skin"], {"stroke": "cvd"})
    for expert in range(3):
        assert torch.equal(hidden(again, expert), hidden(experts, expert))


# --- packs ------------------------------------------------------------------------------------------


def test_an_exported_expert_works_in_another_copy_of_the_model(
    experts: MoEBertModel, tiny: Path, tmp_path: Path
) -> None:
    sha = surgery.export_expert(experts, "cvd", tmp_path, card={"pairs": 12})
    other = surgery.upcycle(tiny)
    surgery.import_expert(other, tmp_path / sha, name="heart")
    assert torch.equal(hidden(other, 1), hidden(experts, 1))
    assert json.loads((tmp_path / sha / "card.json").read_text())["notes"] == {"pairs": 12}


def test_exporting_twice_gives_one_folder(experts: MoEBertModel, tmp_path: Path) -> None:
    names = {surgery.export_expert(experts, "cvd", tmp_path) for _ in range(2)}
    assert [path.name for path in tmp_path.iterdir()] == [*names]


def test_a_damaged_folder_of_the_same_name_is_replaced(experts: MoEBertModel, tmp_path: Path) -> None:
    sha = surgery.export_expert(experts, "cvd", tmp_path)
    (tmp_path / sha / "expert.safetensors").write_bytes(b"cut")
    assert surgery.export_expert(experts, "cvd", tmp_path) == sha
    surgery.import_expert(experts, tmp_path / sha, name="again")


def test_one_flipped_bit_is_refused(experts: MoEBertModel, tmp_path: Path) -> None:
    sha = surgery.export_expert(experts, "cvd", tmp_path)
    file = tmp_path / sha / "expert.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ChecksumError, match=sha[:12]):
        surgery.import_expert(experts, tmp_path / sha, name="again")


def test_another_trunk_is_refused_and_both_are_named(experts: MoEBertModel, tmp_path: Path) -> None:
    sha = surgery.export_expert(experts, "cvd", tmp_path)
    other = surgery.upcycle(build_tiny_bert(tmp_path / "other", seed=1))
    trunks = [surgery.digests(model).trunk[:12] for model in (experts, other)]
    with pytest.raises(ModelMismatchError, match=f"trunk {trunks[0]}.*trunk {trunks[1]}"):
        surgery.import_expert(other, tmp_path / sha, name="cvd")


def test_an_expert_of_one_layer_needs_generals_other_layers(tiny: Path, tmp_path: Path) -> None:
    trained = different(surgery.upcycle(tiny, moe_layers=[1]), "cvd")
    sha = surgery.export_expert(trained, "cvd", tmp_path)
    same, changed = surgery.upcycle(tiny), surgery.upcycle(tiny)
    surgery.import_expert(same, tmp_path / sha, name="cvd")
    assert torch.equal(hidden(same, 1), hidden(trained, 1))
    changed.encoder.layer[0].experts[0].output["dense"].bias.data += 1
    with pytest.raises(ModelMismatchError):
        surgery.import_expert(changed, tmp_path / sha, name="cvd")


def test_an_imported_expert_is_not_tied_to_general(tiny: Path, tmp_path: Path) -> None:
    sha = surgery.export_expert(different(surgery.upcycle(tiny, moe_layers=[1]), "cvd"), "cvd", tmp_path)
    model = surgery.upcycle(tiny)
    surgery.import_expert(model, tmp_path / sha, name="cvd")
    before = hidden(model)
    for layer in model.encoder.layer:
        layer.experts[1].output["dense"].weight.data.zero_()
    assert torch.equal(hidden(model), before)


NEWER = '{"format": 2, "expert": "a", "base": "", "trunk": "", "layers": [], "notes": {}}'


@pytest.mark.parametrize("card", ["", "[]", "{}", NEWER])
def test_a_card_that_says_nothing_is_refused(experts: MoEBertModel, tmp_path: Path, card: str) -> None:
    sha = surgery.export_expert(experts, "cvd", tmp_path)
    (tmp_path / sha / "card.json").write_text(card)
    with pytest.raises(ModelError):
        surgery.import_expert(experts, tmp_path / sha, name="again")


def test_a_renamed_pack_is_refused(experts: MoEBertModel, tmp_path: Path) -> None:
    sha = surgery.export_expert(experts, "cvd", tmp_path)
    (tmp_path / sha).rename(tmp_path / "my-expert")
    with pytest.raises(ModelError, match="not named by a sha256"):
        surgery.import_expert(experts, tmp_path / "my-expert", name="again")
