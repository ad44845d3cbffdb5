"""Experts, and the plan by which rows reach them; shared by every model family."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

_BLOCK = 512
"""Rows that an expert computes at once on a CPU: the inner activations of more leave its caches. In batches
of 4,096 tokens that made MiniLM's forward 15% faster; 256 to 1,024 are alike.
"""


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
    text together. `copies`: the slices are of the batch repeated so often; the first layer with experts
    repeats it. Where a gate chooses, `valid` (batch, tokens) says what is no padding, and `gates` collects
    the logits of each layer, in their order.
    """

    slices: tuple[ExpertSlice, ...]
    order: Tensor | None = None
    inverse: Tensor | None = None
    by_token: bool = False
    copies: int = 1
    valid: Tensor | None = None
    gates: list[Tensor] = field(default_factory=list)


GENERAL_PLAN = Plan((ExpertSlice(0, 0, -1),))
"""Every row goes to expert 0; with a single slice its bounds are not looked at."""


def plan_experts(
    expert_ids: Tensor | None, *, batch: tuple[int, int], experts: int, device: torch.device
) -> Plan:
    """The plan for `expert_ids`, of shape (batch,) or (batch, tokens); None is the first expert for all.

    Ids are best given on the CPU: from an accelerator they are copied here, once; the layers never look.

    Raises:
        ValueError: the ids have another shape, are no integers, or name an expert that does not exist.
    """
    if expert_ids is None:
        return GENERAL_PLAN
    flat = _checked(expert_ids, batch=batch, experts=experts)
    counts = torch.bincount(flat, minlength=experts).tolist()
    slices = slices_of(counts)
    by_token = expert_ids.dim() == 2 and len(slices) > 1
    if len(slices) <= 1 or bool((flat[1:] >= flat[:-1]).all()):
        return Plan(slices, by_token=by_token)
    order = torch.argsort(flat, stable=True)
    return Plan(slices, order.to(device), torch.argsort(order).to(device), by_token)


def plan_fan_out(fan_out: Tensor, *, batch: int, experts: int) -> Plan:
    """Every text under each of these experts: rows (experts * batch), expert by expert.

    Raises:
        ValueError: `fan_out` is no list of experts of the model.
    """
    numbers = _checked(fan_out, batch=(fan_out.numel(), 1), experts=experts).tolist()
    slices = tuple(ExpertSlice(number, at * batch, (at + 1) * batch) for at, number in enumerate(numbers))
    return Plan(slices, copies=len(numbers))


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


def slices_of(counts: list[int]) -> tuple[ExpertSlice, ...]:
    """Contiguous slices of rows sorted by expert; experts without rows have none."""
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
            return self.run(only, hidden)
        if plan.by_token:
            return self._by_token(hidden, plan)
        return self._by_slice(hidden, plan)

    def _by_token(self, hidden: Tensor, plan: Plan) -> Tensor:
        rows = hidden.reshape(-1, hidden.shape[-1])  # (batch * tokens, width)
        out = self._by_slice(rows if plan.order is None else rows[plan.order], plan)
        return (out if plan.inverse is None else out[plan.inverse]).view(*hidden.shape[:-1], -1)

    def _by_slice(self, rows: Tensor, plan: Plan) -> Tensor:
        return torch.cat([self.run(part.expert, rows[part.start : part.stop]) for part in plan.slices])

    def run(self, expert: int, rows: Tensor) -> Tensor:
        """The feed-forward of one expert, (..., width) -> (..., width)."""
        tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if rows.device.type != "cpu" or torch.is_grad_enabled() or tracing:
            out: Tensor = self[expert](rows)
            return out
        return self._in_blocks(expert, rows)

    def _in_blocks(self, expert: int, rows: Tensor) -> Tensor:
        flat = rows.reshape(-1, rows.shape[-1])
        if len(flat) <= _BLOCK:
            out: Tensor = self[expert](rows)
            return out
        out = torch.empty_like(flat)
        for start in range(0, len(flat), _BLOCK):
            out[start : start + _BLOCK] = self[expert](flat[start : start + _BLOCK])
        return out.view_as(rows)


class LowRankLinear(nn.Linear):
    """A linear whose weight is `weight + up @ down`; only the two small factors are meant to be trained.

    `down` (rank, in) starts random, `up` (out, rank) zero, so that the sum starts as `weight` (Hu et al.,
    LoRA, ICLR 2022).
    """

    def __init__(self, inputs: int, outputs: int, *, rank: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.down = nn.Parameter(torch.empty(rank, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows) + nn.functional.linear(nn.functional.linear(rows, self.down), self.up)


def linear(inputs: int, outputs: int, *, rank: int = 0, bias: bool = True) -> nn.Linear:
    """A linear, with a low-rank delta if `rank` is above zero."""
    if rank:
        return LowRankLinear(inputs, outputs, rank=rank, bias=bias)
    return nn.Linear(inputs, outputs, bias=bias)


class Growth(nn.Linear):
    """A multiplicative branch that starts as one everywhere: weight 0, bias 1 (PAPER: gated growth)."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.ones_(self.bias)


class FeedForward(nn.Module):
    """The two linears of a layer with a norm behind it; the names continue those of the dense model."""

    def __init__(self, config: Any, *, rank: int = 0, gated: bool = False) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.intermediate = nn.ModuleDict({"dense": linear(width, inner, rank=rank)})
        self.output = nn.ModuleDict({"dense": linear(inner, width, rank=rank)})
        self.growth = Growth(width, inner) if gated else None
        self.act = ACT2FN[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        inner = self.act(self.intermediate["dense"](hidden))
        if self.growth is not None:
            inner = inner * self.growth(hidden)
        out: Tensor = self.output["dense"](inner)
        return out


class PostNorm(nn.Module):
    """What follows the second linear: dropout, residual and norm, one for all experts."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dropout(hidden) + residual)
        return out


def make_experts(kind: Any, config: Any) -> Experts:
    """One feed-forward of class `kind` for each expert of the configuration."""
    return Experts(
        kind(config, rank=config.low_rank.get(name, 0), gated=name in config.gated) for name in config.experts
    )
