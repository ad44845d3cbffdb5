"""Experts and the plan by which rows reach them; shared by every model family."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class ExpertSlice:
    """Rows `start:stop` of the sorted batch belong to one expert."""

    expert: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Which expert computes which rows of a batch, decided once per forward.

    `order` sorts the rows by expert (None: they already are), `inverse` undoes it. Rows are texts, or the
    flattened tokens when `by_token`: then the layers sort and unsort, since attention needs the tokens of a
    text together.
    """

    slices: tuple[ExpertSlice, ...]
    order: Tensor | None = None
    inverse: Tensor | None = None
    by_token: bool = False


GENERAL_PLAN = Plan((ExpertSlice(0, 0, -1),))
"""Every row goes to expert 0; with a single slice its bounds are not looked at."""


def plan_experts(
    expert_ids: Tensor | None, *, batch: tuple[int, int], experts: int, device: torch.device
) -> Plan:
    """The plan for `expert_ids`, of shape (batch,) or (batch, tokens); None is the general expert for all.

    Ids are best given on the CPU: from an accelerator they are copied here, once; the layers never look.

    Raises:
        ValueError: the ids have another shape, are no integers, or name an expert that does not exist.
    """
    if expert_ids is None:
        return GENERAL_PLAN
    flat = _checked(expert_ids, batch=batch, experts=experts)
    counts = torch.bincount(flat, minlength=experts).tolist()
    slices = _slices(counts)
    by_token = expert_ids.dim() == 2 and len(slices) > 1
    if len(slices) <= 1 or bool((flat[1:] >= flat[:-1]).all()):
        return Plan(slices, by_token=by_token)
    order = torch.argsort(flat, stable=True)
    return Plan(slices, order.to(device), torch.argsort(order).to(device), by_token)


def _checked(expert_ids: Tensor, *, batch: tuple[int, int], experts: int) -> Tensor:
    shape = tuple(expert_ids.shape)
    if shape not in (batch[:1], batch):
        raise ValueError(f"expert_ids has shape {shape}; this batch needs {batch[:1]} or {batch}")
    if expert_ids.is_floating_point() or expert_ids.dtype == torch.bool:
        raise ValueError(f"expert_ids must be integers, not {expert_ids.dtype}")
    flat = expert_ids.detach().to("cpu", torch.long).reshape(-1)
    if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < experts:
        raise ValueError(f"expert_ids must be from 0 to {experts - 1}")
    return flat


def _slices(counts: list[int]) -> tuple[ExpertSlice, ...]:
    ends = [0]
    for count in counts:
        ends.append(ends[-1] + count)
    bounds = enumerate(pairwise(ends))
    return tuple(ExpertSlice(expert, start, stop) for expert, (start, stop) in bounds if stop > start)


class Experts(nn.ModuleList):
    """Feed-forwards of one layer, one module per expert, so that each trains, freezes and ships alone."""

    def forward(self, hidden: Tensor, plan: Plan) -> Tensor:
        """`hidden` (batch, tokens, width), its texts sorted as `plan` says; the same shape comes back."""
        if len(plan.slices) <= 1:
            only = plan.slices[0].expert if plan.slices else 0
            return self._run(only, hidden)
        if plan.by_token:
            return self._by_token(hidden, plan)
        return self._by_slice(hidden, plan)

    def _by_token(self, hidden: Tensor, plan: Plan) -> Tensor:
        rows = hidden.reshape(-1, hidden.shape[-1])  # (batch * tokens, width)
        out = self._by_slice(rows if plan.order is None else rows[plan.order], plan)
        return (out if plan.inverse is None else out[plan.inverse]).view(*hidden.shape[:-1], -1)

    def _by_slice(self, rows: Tensor, plan: Plan) -> Tensor:
        return torch.cat([self._run(part.expert, rows[part.start : part.stop]) for part in plan.slices])

    def _run(self, expert: int, rows: Tensor) -> Tensor:
        out: Tensor = self[expert](rows)
        return out
