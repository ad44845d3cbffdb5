"""Every routing against a plain loop over the experts, text by text or token by token."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from moe_retrieval.model import extend, surgery
from tests.tiny_model import FAMILIES
from tests.unit.model.family_models import TEXTS, batch, dense, hidden, upcycled

CHOSEN = torch.tensor([2, 0, 1, 0, 2, 1])


def gated(family: str, routing: str, *, top_k: int, layers: list[int] | None = None) -> Any:
    """A model with three different experts and a learned gate that prefers different ones."""
    model = upcycled(family, "a", "b", layers=layers)
    extend.set_routing(model, routing, top_k=top_k)
    for number, layer in model.expert_layers:
        generator = torch.Generator().manual_seed(number)
        layer.gate.weight.data.copy_(torch.randn(layer.gate.weight.shape, generator=generator))
    return model


def looped(layer: Any, rows: torch.Tensor, logits: torch.Tensor, k: int) -> torch.Tensor:
    """Each row (tokens, width) or (width,) through its k best experts, one after the other."""
    out = []
    for row, own in zip(rows, logits, strict=True):
        best = own.topk(k)
        weights = best.values.softmax(-1)
        parts = [w * layer.experts[int(e)](row) for w, e in zip(weights, best.indices, strict=True)]
        out.append(torch.stack(parts).sum(0))
    return torch.stack(out)


@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("routing", ["sentence", "token"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_learned_gate_equals_the_plain_loop(family: str, routing: str, top_k: int) -> None:
    """The feed-forward of each layer is taken out and computed again from what went into it."""
    model = gated(family, routing, top_k=top_k)
    ids, mask = batch(family)
    compared = 0
    for _, layer in model.expert_layers:
        plain_routed = layer.routed

        def checked(
            states: torch.Tensor, plan: Any, *, layer: Any = layer, routed: Any = plain_routed
        ) -> Any:
            nonlocal compared
            out = routed(states, plan)
            each = layer.gate(states)
            if routing == "token":
                rows, logits = states.flatten(0, 1), each.flatten(0, 1)
            else:
                weights = mask.unsqueeze(-1).float()
                rows, logits = states, (each * weights).sum(1) / weights.sum(1)
            wanted = looped(layer, rows, logits, top_k).view_as(out)
            torch.testing.assert_close(out, wanted, atol=1e-5, rtol=1e-4)
            wrong = looped(layer, rows, logits.roll(1, -1), top_k).view_as(out)
            assert (out - wrong).abs().max() > 0.01 or top_k == 3
            compared += 1
            return out

        layer.routed = checked
    hidden(model, ids, mask)
    assert compared == 4


@pytest.mark.parametrize("routing", ["sentence", "token"])
@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_equal_experts_under_a_fresh_gate_are_the_dense_model(family: str, routing: str, top_k: int) -> None:
    model = surgery.upcycle(dense(family))
    for name in ("a", "b"):
        surgery.add_expert(model, name)
    extend.set_routing(model, routing, top_k=top_k)
    ids, mask = batch(family)
    torch.testing.assert_close(
        hidden(model, ids, mask), hidden(dense(family), ids, mask), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_token_types_are_experts_and_nothing_else(family: str) -> None:
    model, plain = upcycled(family, "a", "b"), upcycled(family, "a", "b")
    extend.set_routing(model, "token_types")
    ids, mask = batch(family)
    chosen = torch.randint(0, 3, ids.shape, generator=torch.Generator().manual_seed(1))
    routed = hidden(model, ids, mask, token_type_ids=chosen)
    assert torch.equal(routed, hidden(plain, ids, mask, expert_ids=chosen))  # no type embedding was added
    assert (routed - hidden(plain, ids, mask)).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_a_domain_token_replaces_the_first_one(family: str) -> None:
    model = upcycled(family, "a", "b")
    plain = upcycled(family, "a", "b")
    extend.set_routing(model, "domain_token", first_token=2)
    ids, mask = batch(family)
    same = hidden(model, ids, mask, expert_ids=CHOSEN)
    torch.testing.assert_close(same, hidden(plain, ids, mask, expert_ids=CHOSEN), atol=1e-6, rtol=0)
    model.input_rows[1].token.data.copy_(dense(family).get_input_embeddings().weight[50])
    other = ids.clone()
    other[CHOSEN == 1, 0] = 50  # as if the text had begun with token 50
    told = hidden(model, ids, mask, expert_ids=CHOSEN)
    torch.testing.assert_close(told, hidden(plain, other, mask, expert_ids=CHOSEN), atol=1e-5, rtol=1e-5)
    assert (told - same).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_words_of_one_expert_are_its_alone(family: str) -> None:
    model, plain = upcycled(family, "a", "b"), upcycled(family, "a", "b")
    extend.add_words(model, "a", {"stent": [40], "graft": [50]})
    ids, mask = batch(family)
    worded = ids.clone()
    worded[2, 1], worded[5, 1] = 100, 101  # both texts go to expert a
    spelt = ids.clone()
    spelt[2, 1], spelt[5, 1] = 40, 50
    told = hidden(model, worded, mask, expert_ids=CHOSEN)
    torch.testing.assert_close(told, hidden(plain, spelt, mask, expert_ids=CHOSEN), atol=1e-5, rtol=1e-5)
    model.input_rows[1].words.data.normal_()
    rows = torch.cat([torch.full((int(n),), int(e)) for n, e in zip(mask.sum(1), CHOSEN, strict=True)])
    changed = (hidden(model, worded, mask, expert_ids=CHOSEN) - told).abs().amax(dim=1) > 0
    assert changed[rows == 1].any()
    assert not changed[rows != 1].any()


def test_two_threads_with_different_experts_do_not_disturb_each_other() -> None:
    model = upcycled("bert", "a", "b")
    ids, mask = batch("bert")
    wanted = [hidden(model, ids, mask, expert_ids=torch.full((TEXTS,), at)) for at in range(3)]

    def once(at: int) -> bool:
        return torch.equal(hidden(model, ids, mask, expert_ids=torch.full((TEXTS,), at % 3)), wanted[at % 3])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(once, range(60)))
