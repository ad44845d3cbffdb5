"""Sorted slices against the plain way: each text alone through a dense model that holds its expert."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.tiny_model import build_tiny_bert, different

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import BertModel

    from moe_retrieval.model.bert import MoEBertModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bert(tmp_path_factory.mktemp("parity") / "tiny", seed=3)


@pytest.fixture(scope="module")
def model(folder: Path) -> MoEBertModel:
    from moe_retrieval.model import surgery

    return different(surgery.upcycle(folder), "cvd", "copd", "skin", "parasitic")


def dense_of(model: MoEBertModel, folder: Path, expert: int) -> BertModel:
    """A plain BertModel whose feed-forward is this expert's."""
    from transformers import BertModel

    dense = BertModel.from_pretrained(folder).eval()
    for plain, routed in zip(dense.encoder.layer, model.encoder.layer, strict=True):
        plain.intermediate.load_state_dict(routed.experts[expert].intermediate.state_dict())
        plain.output.dense.load_state_dict(routed.experts[expert].output["dense"].state_dict())
    return dense


def batch(seed: int, rows: int = 9, tokens: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 60, (rows, tokens), generator=generator)
    lengths = torch.randint(3, tokens + 1, (rows, 1), generator=generator)
    return ids, (torch.arange(tokens) < lengths).long()


@pytest.mark.parametrize("seed", range(4))
def test_a_mixed_batch_equals_a_dense_model_per_expert(model: MoEBertModel, folder: Path, seed: int) -> None:
    ids, mask = batch(seed)
    chosen = torch.randint(0, 5, (len(ids),), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        mixed = model(input_ids=ids, attention_mask=mask, expert_ids=chosen).last_hidden_state
        for expert in chosen.unique().tolist():
            rows = chosen == expert
            plain = dense_of(model, folder, expert)(
                input_ids=ids[rows], attention_mask=mask[rows]
            ).last_hidden_state
            torch.testing.assert_close(mixed[rows], plain, atol=2e-5, rtol=1e-5)


def test_expert_ids_per_token_equal_those_per_text_where_they_agree(model: MoEBertModel) -> None:
    ids, mask = batch(7)
    chosen = torch.arange(len(ids)) % 5
    with torch.inference_mode():
        by_text = model(input_ids=ids, attention_mask=mask, expert_ids=chosen).last_hidden_state
        by_token = model(
            input_ids=ids, attention_mask=mask, expert_ids=chosen[:, None].expand_as(ids)
        ).last_hidden_state
    torch.testing.assert_close(by_text, by_token, atol=2e-5, rtol=1e-5)


def test_a_token_routed_alone_changes_only_what_it_should(model: MoEBertModel) -> None:
    """The control: per-token routing is not the per-text one, and the first layer's other tokens stay."""
    ids, _ = batch(8, rows=1)
    per_token = torch.zeros_like(ids)
    per_token[0, 4] = 2
    with torch.inference_mode():
        plain = model(input_ids=ids, output_hidden_states=True).hidden_states
        routed = model(input_ids=ids, expert_ids=per_token, output_hidden_states=True).hidden_states
    changed = (plain[1] - routed[1]).abs().amax(dim=-1)[0] > 1e-4
    assert changed.nonzero().flatten().tolist() == [4]
    assert not torch.allclose(plain[-1], routed[-1])


def test_a_batch_of_one_expert_is_bit_equal_to_the_dense_model(model: MoEBertModel, folder: Path) -> None:
    ids, mask = batch(9)
    with torch.inference_mode():
        routed = model(
            input_ids=ids, attention_mask=mask, expert_ids=torch.full((len(ids),), 3)
        ).last_hidden_state
        plain = dense_of(model, folder, 3)(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(routed, plain)
