"""A BERT with experts is a Hugging Face model: it saves, loads, trains, and tells its experts apart."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from tests.tiny_model import different

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.model.bert import MoEBertModel

IDS = torch.arange(5, 29).view(4, 6)


def hidden(model: MoEBertModel, expert_ids: torch.Tensor | None = None) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=IDS, expert_ids=expert_ids).last_hidden_state
    return out


def test_auto_model_opens_what_was_saved(experts: MoEBertModel, tmp_path: Path) -> None:
    from transformers import AutoModel

    experts.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert type(again) is type(experts)
    ids = torch.tensor([2, 0, 1, 2])
    assert torch.equal(hidden(again, ids), hidden(experts, ids))


def test_a_saved_folder_brings_the_code_that_reads_it(experts: MoEBertModel, tmp_path: Path) -> None:
    """A process that has never heard of this package loads the folder with trust_remote_code."""
    experts.save_pretrained(tmp_path / "saved")
    script = (
        "import sys, torch; from transformers import AutoModel\n"
        f"model = AutoModel.from_pretrained({str(tmp_path / 'saved')!r}, trust_remote_code=True).eval()\n"
        "ids = torch.arange(5, 29).view(4, 6)\n"
        "out = model(input_ids=ids, expert_ids=torch.tensor([2, 0, 1, 2])).last_hidden_state\n"
        "assert 'moe_retrieval' not in sys.modules and type(model).__name__ == 'MoEBertModel'\n"
        "sys.stdout.write(f'{out.double().sum().item():.4f}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={
            **os.environ,
            "HF_MODULES_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": "",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = hidden(experts, torch.tensor([2, 0, 1, 2])).double().sum().item()
    assert float(done.stdout) == pytest.approx(wanted, abs=1e-3)


def test_the_wrong_expert_gives_another_vector(experts: MoEBertModel) -> None:
    cvd, skin = (hidden(experts, torch.full((4,), number)) for number in (1, 2))
    assert (cvd - skin).abs().max() > 0.01


def test_outputs_come_back_in_the_callers_order(experts: MoEBertModel) -> None:
    ids = torch.tensor([2, 0, 1, 0])
    with torch.no_grad():
        mixed = experts(input_ids=IDS, expert_ids=ids, output_hidden_states=True)
        alone = [
            experts(input_ids=IDS[i : i + 1], expert_ids=ids[i : i + 1], output_hidden_states=True)
            for i in range(4)
        ]
    for layer, states in enumerate(mixed.hidden_states):
        torch.testing.assert_close(states, torch.cat([one.hidden_states[layer] for one in alone]))


def test_padding_does_not_change_a_text(experts: MoEBertModel) -> None:
    ids = torch.tensor([1, 0, 2, 1])
    mask = torch.ones_like(IDS)
    mask[1:, 4:] = 0
    with torch.no_grad():
        padded = experts(input_ids=IDS, attention_mask=mask, expert_ids=ids).last_hidden_state
        short = experts(input_ids=IDS[1:, :4], expert_ids=ids[1:]).last_hidden_state
    torch.testing.assert_close(padded[1:, :4], short)


def test_a_tuple_comes_back_when_asked_for(experts: MoEBertModel) -> None:
    out = experts(input_ids=IDS, return_dict=False)
    assert isinstance(out, tuple)
    assert torch.equal(out[0], hidden(experts))


def test_the_gradient_reaches_only_the_expert_that_was_used(experts: MoEBertModel) -> None:
    experts(input_ids=IDS, expert_ids=torch.tensor([1, 1, 0, 0])).last_hidden_state.square().sum().backward()
    used = [
        [weight.grad is not None for weight in expert.parameters()]
        for expert in experts.encoder.layer[0].experts
    ]
    assert [all(marks) for marks in used] == [True, True, False]


def test_checkpointed_training_has_the_same_gradient(experts: MoEBertModel) -> None:
    def gradients() -> list[torch.Tensor]:
        experts.zero_grad()
        experts(
            input_ids=IDS, expert_ids=torch.tensor([2, 0, 1, 2])
        ).last_hidden_state.square().sum().backward()
        return [weight.grad.clone() for weight in experts.encoder.parameters() if weight.grad is not None]

    for module in experts.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    experts.config.attention_probs_dropout_prob = 0.0
    experts.train()
    plain = gradients()
    experts.activation_checkpointing_enable()
    for one, other in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(one, other)


def test_layers_without_experts_are_dense(tiny: Path) -> None:
    from moe_retrieval.model import surgery

    model = different(surgery.upcycle(tiny, moe_layers=[1]), "cvd")
    assert [layer.experts is not None for layer in model.encoder.layer] == [False, True]
    assert not torch.equal(hidden(model), hidden(model, torch.ones(4, dtype=torch.long)))
