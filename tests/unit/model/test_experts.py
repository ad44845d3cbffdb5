"""The plan sends every row to its expert, and back to its place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_retrieval.model.experts import Experts, Plan, plan_experts

CPU = torch.device("cpu")


def plan(ids: list[int] | list[list[int]], *, tokens: int = 3, experts: int = 4) -> Plan:
    given = torch.tensor(ids)
    return plan_experts(given, batch=(len(ids), tokens), experts=experts, device=CPU)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_the_slices_cover_the_sorted_rows_once_each_with_its_expert(ids: list[int]) -> None:
    made = plan(ids)
    order = made.order if made.order is not None else torch.arange(len(ids))
    got = [(int(row), part.expert) for part in made.slices for row in order[part.start : part.stop]]
    assert sorted(got) == list(enumerate(ids))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_the_inverse_undoes_the_order(ids: list[int]) -> None:
    made = plan(ids)
    if made.order is not None and made.inverse is not None:
        assert made.order[made.inverse].tolist() == list(range(len(ids)))


@pytest.mark.parametrize("ids", [[2, 2, 2], [0, 1, 1], [[1, 1, 1], [1, 1, 1]]])
def test_sorted_rows_are_not_sorted_again(ids: list[int]) -> None:
    assert plan(ids).order is None


def test_no_ids_are_the_general_expert() -> None:
    assert plan_experts(None, batch=(2, 3), experts=4, device=CPU).slices[0].expert == 0


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (torch.tensor([0, 1, 2]), "has shape"),
        (torch.tensor([0.0, 1.0]), "integers"),
        (torch.tensor([True, False]), "integers"),
        (torch.tensor([0, 4]), "from 0 to 3"),
        (torch.tensor([-1, 0]), "from 0 to 3"),
        (torch.zeros(2, 5, dtype=torch.long), "has shape"),
    ],
)
def test_ids_that_mean_nothing_are_refused(ids: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan_experts(ids, batch=(2, 3), experts=4, device=CPU)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=1, max_size=5))
def test_every_token_meets_its_own_expert(ids: list[list[int]]) -> None:
    layer = Experts([torch.nn.Linear(4, 4) for _ in range(3)])
    hidden = torch.randn(len(ids), 3, 4)
    with torch.no_grad():
        out = layer(hidden, plan(ids, experts=3))
        wanted = torch.stack(
            [torch.stack([layer[k](hidden[i, j]) for j, k in enumerate(row)]) for i, row in enumerate(ids)]
        )
    torch.testing.assert_close(out, wanted)
