"""An encoder with a loss: in parts as in one go, pooling and head as served, gates taught by their losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moe_retrieval import Encoder
from moe_retrieval.corpus.pairs import Pair
from moe_retrieval.model import extend, surgery
from moe_retrieval.model.head import PoolingHead
from moe_retrieval.model.source import open_source
from moe_retrieval.training.embedding import embedding
from moe_retrieval.training.feeding import Feeder
from moe_retrieval.training.losses import ContrastiveLoss
from moe_retrieval.training.options import GateWeights, LossName, LossOptions, Similarity
from moe_retrieval.training.pair_model import PairModel, Texts
from moe_retrieval.training.validation import DOCUMENT
from tests.tiny_model import WORDS, different

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

A = ["heart attack", "lung disease risk", "skin cell", "drug dose in trial", "joint pain"]
B = ["blood pressure", "smoking cough", "tumour sun light and skin", "aspirin", "immune cell fever"]
HARD = ["malaria worm", "the risk of stroke", "pain"]


@pytest.fixture
def experts(tiny_model: Path) -> Any:
    """A model with two experts that differ from general; fresh for each test."""
    return different(surgery.load(tiny_model), "cvd", "skin")


@pytest.fixture
def feeder(tiny_model: Path) -> Feeder:
    return Feeder(open_source(tiny_model), experts={"cvd": 1, "skin": 2}, max_length=32)


def pair_model(model: Any, **said: Any) -> PairModel:
    loss = said.pop("loss", LossOptions())
    return PairModel(model, loss=ContrastiveLoss(loss), pooling=said.pop("pooling", "mean"), **said)


def groups(feeder: Feeder, *, hard: bool = True) -> dict[str, Texts]:
    found = {"a": feeder.texts(A, "cvd"), "b": feeder.texts(B, "cvd")}
    return found | ({"negatives": feeder.texts(HARD, "cvd")} if hard else {})


def learnt(model: PairModel, batch: dict[str, Texts], *, seed: int = 0) -> tuple[float, dict[str, Any]]:
    """The loss of a batch, and the gradient of every weight that got one."""
    model.zero_grad()
    torch.manual_seed(seed)
    loss = model(**batch)["loss"]
    loss.backward()
    named = model.named_parameters()
    return loss.item(), {name: one.grad.clone() for name, one in named if one.grad is not None}


def assert_alike(one: dict[str, Any], other: dict[str, Any], *, tolerance: float = 1e-5) -> None:
    assert one.keys() == other.keys()
    for name, grad in one.items():
        scale = max(1.0, float(other[name].abs().max()))
        torch.testing.assert_close(grad, other[name], atol=tolerance * scale, rtol=0, msg=name)


def both_ways(plain: PairModel, chunk: int, batch: dict[str, Texts]) -> tuple[Any, Any]:
    expected = learnt(plain, batch)
    plain.chunk = chunk
    return learnt(plain, batch), expected


LOSSES = [
    LossOptions(),
    LossOptions(LossName.SYMMETRIC, learned=True),
    LossOptions(LossName.MNR_PLUS, similarity=Similarity.DOT),
    LossOptions(LossName.TRIPLET, margin=2.0),
]


@pytest.mark.parametrize("chunk", [1, 2, len(A)])
@pytest.mark.parametrize("options", LOSSES, ids=lambda one: str(one.name))
def test_in_parts_loss_and_gradients_are_those_of_one_go(
    experts: Any, feeder: Feeder, options: LossOptions, chunk: int
) -> None:
    model = pair_model(experts.eval(), loss=options).eval()
    cached, plain = both_ways(model, chunk, groups(feeder))
    assert cached[0] == pytest.approx(plain[0], rel=1e-5)
    assert_alike(cached[1], plain[1])


def test_in_parts_a_head_learns_what_it_learns_in_one_go(experts: Any, feeder: Feeder) -> None:
    torch.manual_seed(0)
    model = pair_model(experts, head=PoolingHead(32, 16, 8)).eval()
    cached, plain = both_ways(model, 2, groups(feeder))
    assert [name for name in plain[1] if name.startswith("head.")]
    assert_alike(cached[1], plain[1])


def test_in_parts_the_second_pass_drops_what_the_first_one_dropped(experts: Any, feeder: Feeder) -> None:
    """Gradients are those of the very vectors that the loss saw: part by part, with the noise of each."""
    model = pair_model(experts, chunk=2).train()
    batch = groups(feeder)
    _, cached = learnt(model, batch, seed=5)
    model.zero_grad()
    torch.manual_seed(5)
    parts = {name: texts.parts(2) for name, texts in batch.items()}
    vectors = [torch.cat([model.embed(part)[0] for part in own]) for own in parts.values()]
    model.loss(*vectors).backward()
    expected = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    assert_alike(cached, expected)


def test_noise_after_a_step_in_parts_goes_on_as_if_nothing_was_encoded_twice(
    experts: Any, feeder: Feeder
) -> None:
    model = pair_model(experts, chunk=2).train()
    torch.manual_seed(0)
    loss = model(**groups(feeder))["loss"]
    before = torch.get_rng_state()
    loss.backward()
    assert torch.equal(torch.get_rng_state(), before)


def test_in_parts_the_loss_can_be_scaled_like_any_other(experts: Any, feeder: Feeder) -> None:
    model = pair_model(experts, loss=LossOptions(learned=True), chunk=2).eval()
    _, once = learnt(model, groups(feeder))
    model.zero_grad()
    (model(**groups(feeder))["loss"] / 4).backward()
    assert_alike({name: one.grad * 4 for name, one in model.named_parameters() if name in once}, once)


def test_in_parts_gradients_add_up_over_batches(experts: Any, feeder: Feeder) -> None:
    model = pair_model(experts, loss=LossOptions(learned=True), chunk=2).eval()
    _, once = learnt(model, groups(feeder))
    model(**groups(feeder))["loss"].backward()
    assert_alike({name: one.grad / 2 for name, one in model.named_parameters() if name in once}, once)


def test_in_parts_only_what_is_to_learn_gets_a_gradient(experts: Any, feeder: Feeder) -> None:
    experts.requires_grad_(requires_grad=False)
    for _, layer in experts.expert_layers:
        layer.experts[1].requires_grad_(requires_grad=True)
    _, grads = learnt(pair_model(experts, chunk=2), groups(feeder))
    assert grads
    assert all(".experts.1." in name for name in grads)


def test_in_parts_bf16_is_used_in_both_passes(experts: Any, feeder: Feeder) -> None:
    model = pair_model(experts, chunk=2).eval()
    _, exact = learnt(model, groups(feeder))
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**groups(feeder))["loss"]
    loss.backward()
    grads = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    assert grads.keys() == exact.keys()
    flat = [torch.cat([one.flatten() for one in found.values()]) for found in (grads, exact)]
    assert not torch.equal(*flat)
    assert torch.cosine_similarity(*flat, dim=0).item() > 0.95


def test_without_gradients_a_batch_is_encoded_once(experts: Any, feeder: Feeder) -> None:
    model = pair_model(experts, chunk=2).eval()
    expected, _ = learnt(model, groups(feeder))
    with torch.no_grad():
        loss = model(**groups(feeder))["loss"]
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("domain", ["general", "cvd", "skin"])
def test_vectors_are_those_that_the_encoder_serves(
    tiny_model: Path, tmp_path: Path, experts: Any, feeder: Feeder, domain: str
) -> None:
    for name in ("cvd", "skin"):
        surgery.assign(experts, name, name)
    encoder = Encoder.load(surgery.save(experts, tmp_path / "model", like=tiny_model), precision="fp32")
    embed = embedding(pair_model(experts), feeder, bf16=False)
    found = embed(A, domain, DOCUMENT)
    np.testing.assert_allclose(found, encoder.encode_document(A, domain=domain), atol=1e-5)


def test_cls_pooling_takes_the_first_token(experts: Any, feeder: Feeder) -> None:
    texts = feeder.texts(A, "cvd")
    with torch.no_grad():
        found, _ = pair_model(experts, pooling="cls").eval().embed(texts)
        out = experts(
            input_ids=texts.ids, attention_mask=texts.mask, domain=None, expert_ids=torch.ones(5).long()
        )
    torch.testing.assert_close(found, out.last_hidden_state[:, 0])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_changes_no_vector(experts: Any, feeder: Feeder, pooling: str) -> None:
    model = pair_model(experts, pooling=pooling).eval()
    with torch.no_grad():
        together, _ = model.embed(feeder.texts(A, "cvd"))
        alone = torch.cat([model.embed(feeder.texts([text], "cvd"))[0] for text in A])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_a_head_follows_the_pooling(experts: Any, feeder: Feeder) -> None:
    head = PoolingHead(32, 16, 8).eval()
    texts = feeder.texts(A, "cvd")
    with torch.no_grad():
        plain, _ = pair_model(experts).eval().embed(texts)
        headed, _ = pair_model(experts, head=head).eval().embed(texts)
        torch.testing.assert_close(headed, head(plain))


# --- gates
# -----------------------------------------------------------------------------------------------------


@pytest.fixture
def gated(experts: Any) -> Callable[..., Any]:
    """The model with a gate of this kind, all but the gates frozen."""

    def made(routing: str = "sentence", top_k: int = 1) -> Any:
        extend.set_routing(experts, routing, top_k=top_k)
        for name, weight in experts.named_parameters():
            weight.requires_grad_(".gate." in name)
        return experts.eval()

    return made


EACH = [
    GateWeights(mutual_information=1.0),
    GateWeights(load_balance=1.0),
    GateWeights(specified_expert=1.0),
]
ROUTINGS = ["sentence", "token"]


@pytest.mark.parametrize("chunk", [0, 2])
@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("weights", EACH, ids=["information", "balance", "specified"])
def test_each_loss_moves_the_gates_with_a_batch_in_parts_or_not(
    gated: Callable[..., Any], feeder: Feeder, weights: GateWeights, routing: str, chunk: int
) -> None:
    model = pair_model(gated(routing), gates=weights, contrast=0.0, chunk=chunk).eval()
    pairs = [Pair(a, b, ("cvd", "skin")[at % 2]) for at, (a, b) in enumerate(zip(A, B, strict=True))]
    _, grads = learnt(model, feeder.batch(pairs))
    assert len(grads) == 2
    assert all(".gate." in name and grad.abs().max() > 1e-6 for name, grad in grads.items())


@pytest.mark.parametrize("chunk", [1, 2])
def test_in_parts_the_specified_expert_is_taught_as_in_one_go(
    gated: Callable[..., Any], feeder: Feeder, chunk: int
) -> None:
    model = pair_model(gated(), gates=GateWeights(specified_expert=1.0), contrast=0.0).eval()
    cached, plain = both_ways(model, chunk, groups(feeder))  # groups and parts of unequal size
    assert cached[0] == pytest.approx(plain[0], rel=1e-5)
    assert_alike(cached[1], plain[1])


@pytest.mark.parametrize("chunk", [0, 2])
def test_pairs_and_gates_are_learnt_together(gated: Callable[..., Any], feeder: Feeder, chunk: int) -> None:
    model = gated(top_k=2).requires_grad_(requires_grad=True)
    both = pair_model(model, gates=GateWeights(specified_expert=0.5), chunk=chunk).eval()
    alone = [
        pair_model(model, chunk=chunk).eval(),
        pair_model(model, gates=GateWeights(specified_expert=0.5), contrast=0.0, chunk=chunk).eval(),
    ]
    batch = groups(feeder, hard=False)
    assert learnt(both, batch)[0] == pytest.approx(sum(learnt(one, batch)[0] for one in alone), rel=1e-5)


@pytest.mark.parametrize("routing", ROUTINGS)
def test_a_gate_learns_to_choose_the_specified_expert(
    gated: Callable[..., Any], feeder: Feeder, routing: str
) -> None:
    model = pair_model(gated(routing), gates=GateWeights(specified_expert=1.0), contrast=0.0).eval()
    optimiser = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=0.05)
    mine = {"cvd": WORDS[5:15], "skin": WORDS[15:25]}
    texts = {domain: feeder.texts(words, domain) for domain, words in mine.items()}
    for _ in range(25):
        for own in texts.values():
            optimiser.zero_grad()
            model(own, own)["loss"].backward()
            optimiser.step()
    for domain, number in (("cvd", 1), ("skin", 2)):
        own = texts[domain]
        with torch.no_grad():
            out = model.encoder(input_ids=own.ids, attention_mask=own.mask)
        logits = torch.stack(out.router_logits).mean(dim=0)
        chosen = logits[own.mask.reshape(-1).bool()] if routing == "token" else logits
        assert (chosen.argmax(dim=-1) == number).float().mean() > 0.8


def test_gates_that_no_loss_weighs_add_nothing(gated: Callable[..., Any], feeder: Feeder) -> None:
    model = gated(top_k=3).requires_grad_(requires_grad=True)
    batch = groups(feeder)
    loss, _ = learnt(pair_model(model).eval(), batch)
    weighed, _ = learnt(pair_model(model, gates=GateWeights(load_balance=0.1)).eval(), batch)
    assert weighed == pytest.approx(loss + 0.1, abs=0.1)
    assert weighed > loss
