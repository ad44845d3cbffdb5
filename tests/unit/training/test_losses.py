"""Contrastive losses: what a batch costs, against plain loops and numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from moe_retrieval.errors import UsageError
from moe_retrieval.training.losses import ContrastiveLoss, plus_targets
from moe_retrieval.training.options import LossName, LossOptions, Similarity


def vectors(*sizes: int, seed: int = 0, dim: int = 5) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(size, dim, generator=draw) for size in sizes]


def similarity(one: torch.Tensor, other: torch.Tensor, how: Similarity) -> float:
    dot = float(one @ other)
    return dot if how is Similarity.DOT else dot / float(one.norm() * other.norm())


def row_losses(
    queries: torch.Tensor, answers: torch.Tensor, options: LossOptions, targets: list[int]
) -> list[float]:
    """-log softmax of each row's target, text by text."""
    found = []
    for row, query in enumerate(queries):
        scores = [similarity(query, answer, options.similarity) / options.start for answer in answers]
        found.append(math.log(sum(map(math.exp, scores))) - scores[targets[row]])
    return found


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def loss_of(options: LossOptions, *groups: torch.Tensor) -> float:
    return float(ContrastiveLoss(options)(*groups))


@pytest.mark.parametrize("how", list(Similarity))
@pytest.mark.parametrize("temperature", [None, 0.3])
def test_mnr_is_the_mean_of_each_rows_own_cross_entropy(how: Similarity, temperature: float | None) -> None:
    a, b = vectors(4, 4)
    options = LossOptions(similarity=how, temperature=temperature)
    expected = mean(row_losses(a, b, options, [0, 1, 2, 3]))
    assert loss_of(options, a, b) == pytest.approx(expected, rel=1e-5)


def test_two_orthogonal_pairs_cost_what_a_hand_computes() -> None:
    a = torch.tensor([[3.0, 0.0], [0.0, 0.1]])  # lengths do not count for cosines
    options = LossOptions(temperature=1.0)
    assert loss_of(options, a, a) == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-6)


@pytest.mark.parametrize("how", list(Similarity))
def test_hard_negatives_are_further_columns(how: Similarity) -> None:
    a, b, hard = vectors(3, 3, 2)
    options = LossOptions(similarity=how, temperature=0.5)
    expected = mean(row_losses(a, torch.cat([b, hard]), options, [0, 1, 2]))
    assert loss_of(options, a, b, hard) == pytest.approx(expected, rel=1e-5)


def test_symmetric_is_the_mean_of_both_directions() -> None:
    a, b = vectors(4, 4)
    options = LossOptions(LossName.SYMMETRIC, temperature=0.5)
    there, back = (row_losses(*sides, options, [0, 1, 2, 3]) for sides in ((a, b), (b, a)))
    assert loss_of(options, a, b) == pytest.approx((mean(there) + mean(back)) / 2, rel=1e-5)
    assert loss_of(options, a, b) == pytest.approx(loss_of(options, b, a), rel=1e-6)


def test_symmetric_asks_no_hard_negative_for_its_a() -> None:
    a, b, hard = vectors(3, 3, 2)
    options = LossOptions(LossName.SYMMETRIC, temperature=0.5)
    there = row_losses(a, torch.cat([b, hard]), options, [0, 1, 2])
    back = row_losses(b, a, options, [0, 1, 2])
    assert loss_of(options, a, b, hard) == pytest.approx((mean(there) + mean(back)) / 2, rel=1e-5)


def test_the_plus_target_of_different_pairs_is_their_own_row() -> None:
    a, b = (torch.nn.functional.normalize(one, dim=-1) for one in vectors(6, 6))
    assert plus_targets(a, b).tolist() == list(range(6))


def test_the_plus_target_is_the_row_that_both_sides_are_most_like() -> None:
    a = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    b = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    # row 0: its own (1 + 1) / 2, but (2 + 1) / 2 with row 1, whose text is the same, and longer
    assert plus_targets(a, b).tolist() == [1, 1, 2]


def test_mnr_plus_holds_scores_against_the_plus_targets() -> None:
    a, b = vectors(6, 6)
    a[4], b[4] = 2 * a[0], 2 * b[0]
    options = LossOptions(LossName.MNR_PLUS, similarity=Similarity.DOT)
    targets = plus_targets(a, b).tolist()
    assert targets != list(range(6))
    assert loss_of(options, a, b) == pytest.approx(mean(row_losses(a, b, options, targets)), rel=1e-5)


def test_mnr_plus_of_cosines_is_mnr_where_no_text_is_twice() -> None:
    a, b = vectors(6, 6)
    plus = LossOptions(LossName.MNR_PLUS)
    assert loss_of(plus, a, b) == pytest.approx(loss_of(LossOptions(), a, b), rel=1e-6)


def test_a_pair_that_is_in_the_batch_twice_may_be_its_double() -> None:
    (a, b) = vectors(3, 3)
    a[2], b[2] = a[0], b[0]
    doubles = plus_targets(a, b).tolist()
    assert doubles[0] == doubles[2]
    assert doubles[0] in (0, 2)


@pytest.mark.parametrize("how", list(Similarity))
def test_triplet_is_the_margin_by_which_the_hardest_text_comes_too_near(how: Similarity) -> None:
    a, b, hard = vectors(4, 4, 3)
    others = torch.cat([b, hard])
    expected = []
    for row in range(4):
        own = similarity(a[row], b[row], how)
        hardest = max(similarity(a[row], others[at], how) for at in range(7) if at != row)
        expected.append(max(0.0, hardest - own + 0.3))
    options = LossOptions(LossName.TRIPLET, similarity=how, margin=0.3)
    assert loss_of(options, a, b, hard) == pytest.approx(mean(expected), rel=1e-5)


def test_triplet_costs_nothing_once_all_else_is_further_by_the_margin() -> None:
    a = torch.eye(3)
    assert loss_of(LossOptions(LossName.TRIPLET), a, a) == 0.0
    assert loss_of(LossOptions(LossName.TRIPLET, margin=1.5), a, a) == pytest.approx(0.5)


def test_a_batch_of_one_pair_costs_nothing_and_stays_finite() -> None:
    a, b = (one.requires_grad_() for one in vectors(1, 1))
    for name in LossName:
        loss = ContrastiveLoss(LossOptions(name))(a, b)
        loss.backward()
        assert loss.item() == 0.0
        assert torch.isfinite(a.grad).all()


@pytest.mark.parametrize("name", [LossName.MNR, LossName.SYMMETRIC, LossName.MNR_PLUS])
@pytest.mark.parametrize("how", list(Similarity))
def test_a_learned_temperature_moves_to_where_the_loss_is_lower(name: LossName, how: Similarity) -> None:
    a, b = vectors(8, 8)
    b = a + 0.1 * b  # easy: a lower temperature is better
    loss = ContrastiveLoss(LossOptions(name, similarity=how, learned=True))
    (temperature,) = loss.parameters()
    before, start = loss(a, b).item(), temperature.exp().item()
    optimiser = torch.optim.SGD(loss.parameters(), lr=0.5)
    for _ in range(5):
        optimiser.zero_grad()
        loss(a, b).backward()
        optimiser.step()
    assert temperature.exp().item() < start
    assert loss(a, b).item() < before


def test_a_fixed_temperature_is_no_weight() -> None:
    loss = ContrastiveLoss(LossOptions())
    assert not list(loss.parameters())
    assert not loss.state_dict()


@pytest.mark.parametrize(("how", "start"), [(Similarity.COSINE, 0.05), (Similarity.DOT, 0.7)])
def test_the_usual_temperatures(how: Similarity, start: float) -> None:
    loss = ContrastiveLoss(LossOptions(similarity=how))
    assert float(loss.log_temperature.exp()) == pytest.approx(start)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_an_impossible_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(UsageError, match="the temperature is"):
        LossOptions(temperature=temperature)


@pytest.mark.parametrize("name", list(LossName))
def test_vectors_in_half_precision_are_compared_in_single(name: LossName) -> None:
    a, b, hard = (one.bfloat16() for one in vectors(4, 4, 2))
    options = LossOptions(name)
    halves = ContrastiveLoss(options)(a, b, hard)
    assert halves.dtype == torch.float32
    assert float(halves) == pytest.approx(loss_of(options, a.float(), b.float(), hard.float()))


@pytest.mark.parametrize("name", list(LossName))
def test_the_loss_falls_as_pairs_come_together(name: LossName) -> None:
    a, b = vectors(5, 5)
    options = LossOptions(name, temperature=0.5)
    costs = [loss_of(options, a, torch.lerp(b, a, share)) for share in (0.0, 0.5, 1.0)]
    assert costs[0] > costs[1] > costs[2]


def test_gradients_are_those_of_finite_differences() -> None:
    a, b, hard = (one.double() for one in vectors(3, 3, 2, dim=3))
    for name in (LossName.MNR, LossName.SYMMETRIC):
        loss = ContrastiveLoss(LossOptions(name, temperature=0.5))
        probe = a.clone().requires_grad_()
        loss(probe, b, hard).backward()
        step = torch.zeros_like(a)
        step[1, 2] = 1e-2
        slope = float(loss(a + step, b, hard) - loss(a - step, b, hard)) / 2e-2
        assert float(probe.grad[1, 2]) == pytest.approx(slope, rel=1e-2)
