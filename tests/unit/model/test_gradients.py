"""What training moves, and what it must not move."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from moe_retrieval.model import extend, surgery
from tests.tiny_model import FAMILIES
from tests.unit.model.family_models import TEXTS, batch, dense, hidden, upcycled

LABELS = torch.tensor([2, 0, 1, 0, 2, 1])
LOSSES = ("mutual_information_loss", "load_balance_loss", "specified_expert_loss")


def without_dropout(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(model.config, name):
            setattr(model.config, name, 0.0)
    return model.train()


def gated(routing: str, top_k: int = 1, family: str = "bert") -> Any:
    model = upcycled(family, "a", "b")
    extend.set_routing(model, routing, top_k=top_k)
    return model


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("routing", ["sentence", "token"])
def test_an_auxiliary_loss_moves_the_gates_until_it_is_lower(routing: str, loss: str) -> None:
    model = without_dropout(gated(routing))
    ids, mask = batch("bert")
    gates = [layer.gate.weight for _, layer in model.expert_layers]
    before = [gate.detach().clone() for gate in gates]
    optimiser = torch.optim.Adam(gates, lr=0.002)
    values = []
    for _ in range(12):
        optimiser.zero_grad()
        value = getattr(model(input_ids=ids, attention_mask=mask, expert_labels=LABELS), loss)
        value.backward()
        values.append(value.item())
        optimiser.step()
    assert all(gate.grad is not None and gate.grad.abs().sum() > 0 for gate in gates)
    # what share of the rows an expert gets moves in jumps, so the balance may rise again
    assert min(values[1:]) < values[0] - 1e-5
    assert not any(torch.equal(old, new) for old, new in zip(before, gates, strict=True))


def test_losses_that_need_labels_are_absent_without_them() -> None:
    ids, mask = batch("bert")
    out = gated("token", 2)(input_ids=ids, attention_mask=mask)
    assert out.load_balance_loss is not None
    assert out.mutual_information_loss is None
    assert out.specified_expert_loss is None
    assert [tuple(logits.shape) for logits in out.router_logits] == [(ids.numel(), 3)] * 4


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("routing", ["sentence", "token"])
def test_the_weights_of_the_chosen_experts_carry_gradient(routing: str, top_k: int) -> None:
    model = without_dropout(gated(routing, top_k))
    ids, mask = batch("bert")
    model(input_ids=ids, attention_mask=mask).last_hidden_state.square().sum().backward()
    assert all(layer.gate.weight.grad.abs().max() > 0 for _, layer in model.expert_layers)


def test_padding_decides_no_loss() -> None:
    model = gated("token").eval()
    ids, mask = batch("bert")
    other = torch.where(mask.bool(), ids, 77)
    values = [
        [getattr(model(input_ids=given, attention_mask=mask, expert_labels=LABELS), loss) for loss in LOSSES]
        for given in (ids, other)
    ]
    torch.testing.assert_close(*values)


def trained(model: Any, expert: str, *, steps: int) -> None:
    """AdamW with weight decay over all parameters, those of one expert alone not frozen."""
    number = surgery.expert_number(model, expert)
    low_rank = expert in model.config.low_rank
    for name, weight in model.named_parameters():
        mine = f".experts.{number}." in name
        weight.requires_grad_(mine and (not low_rank or name.endswith((".up", ".down"))))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    ids, mask = batch("bert", seed=9)
    for _ in range(steps):
        optimiser.zero_grad()
        chosen = torch.full((TEXTS,), number)
        model(
            input_ids=ids, attention_mask=mask, expert_ids=chosen
        ).last_hidden_state.square().sum().backward()
        optimiser.step()


@pytest.mark.parametrize("rank", [0, 4])
def test_training_a_new_domain_leaves_everything_else_byte_equal(rank: int) -> None:
    model = upcycled("bert", "a")
    ids, mask = batch("bert")
    old = [hidden(model, ids, mask, expert_ids=torch.full((TEXTS,), at)) for at in (0, 1)]
    surgery.add_domain(model, "new", rank=rank)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    fresh = hidden(model, ids, mask, expert_ids=torch.full((TEXTS,), 2))
    trained(model, "new", steps=20)
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed
    assert all(".experts.2." in name for name in changed)
    for at in (0, 1):
        assert torch.equal(hidden(model, ids, mask, expert_ids=torch.full((TEXTS,), at)), old[at])
    assert not torch.equal(hidden(model, ids, mask, expert_ids=torch.full((TEXTS,), 2)), fresh)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_gives_the_same_gradients(family: str) -> None:
    for routing in ("index", "token"):
        model = upcycled(family, "a", "b")
        extend.set_routing(model, routing, top_k=2 if routing == "token" else 1)
        without_dropout(model)
        ids, mask = batch(family)
        more = {"expert_ids": LABELS} if routing == "index" else {"expert_labels": LABELS}

        def gradients(model: Any = model, ids: Any = ids, mask: Any = mask, more: Any = more) -> list[Any]:
            model.zero_grad()
            out = model(input_ids=ids, attention_mask=mask, **more)
            extra = out.mutual_information_loss if "expert_labels" in more else 0
            (out.last_hidden_state.square().mean() + extra).backward()
            return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

        plain = gradients()
        model.activation_checkpointing_enable()
        checkpointed = gradients()
        assert model.is_activation_checkpointing
        for one, other in zip(plain, checkpointed, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-3)


def test_reentrant_checkpointing_of_gates_is_refused() -> None:
    model = without_dropout(gated("sentence"))
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": True})
    model.enable_input_require_grads()
    ids, mask = batch("bert")
    with pytest.raises(ValueError, match="use_reentrant"):
        model(input_ids=ids, attention_mask=mask, expert_labels=LABELS)


def test_merging_a_low_rank_expert_keeps_its_vectors() -> None:
    model = surgery.upcycle(dense("bert"))
    surgery.add_domain(model, "a", rank=4)
    ids, mask = batch("bert")
    one = torch.ones(TEXTS, dtype=torch.long)
    assert torch.equal(hidden(model, ids, mask, expert_ids=one), hidden(model, ids, mask))
    trained(model, "a", steps=3)
    before = hidden(model, ids, mask, expert_ids=one)
    assert (before - hidden(model, ids, mask)).abs().max() > 1e-3
    extend.merge_low_rank(model, "a")
    assert not [name for name, _ in model.named_parameters() if name.endswith((".up", ".down"))]
    torch.testing.assert_close(hidden(model, ids, mask, expert_ids=one), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_growth_starts_as_nothing_and_can_be_trained(family: str) -> None:
    model = upcycled(family, "a")
    ids, mask = batch(family)
    one = torch.ones(TEXTS, dtype=torch.long)
    before = hidden(model, ids, mask, expert_ids=one)
    extend.grow(model, "a")
    assert torch.equal(hidden(model, ids, mask, expert_ids=one), before)
    for _, layer in model.expert_layers:
        layer.experts[1].growth.weight.data.normal_(0, 0.1)
    assert (hidden(model, ids, mask, expert_ids=one) - before).abs().max() > 1e-3
