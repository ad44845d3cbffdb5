"""Learned gates: which experts a text or token gets, at what weight, and the losses that teach them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .experts import Experts, Plan, slices_of


class Gate(nn.Linear):
    """Logits of the experts: (batch, tokens, width) -> (rows, experts), rows being texts or tokens."""

    def __init__(self, config: Any) -> None:
        super().__init__(config.hidden_size, len(config.experts), bias=False)
        self.by_token = config.routing == "token"

    def reset_parameters(self) -> None:
        # the same for every model of a shape: an upcycled model does not depend on the state of a generator
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(self.weight.shape, generator=generator) * 0.02
        with torch.no_grad():
            self.weight.copy_(noise)

    def logits(self, hidden: Tensor, valid: Tensor | None) -> Tensor:
        """One row per token, or the mean over a text's tokens without its padding."""
        each = self(hidden)  # (batch, tokens, experts)
        if self.by_token:
            out: Tensor = each.reshape(-1, each.shape[-1])
            return out
        if valid is None:
            out = each.mean(dim=1)
            return out
        weights = valid.to(each.dtype).unsqueeze(-1)
        out = (each * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return out


@dataclass(frozen=True, slots=True)
class Choice:
    """Experts of each row, best first, (rows, k), and their weights (rows, k), which sum to one."""

    experts: Tensor
    weights: Tensor


def choose(logits: Tensor, *, k: int) -> Choice:
    """The k best experts of each row, renormalised.

    For k = 1 the weight is p / p without gradient in the divisor: exactly one, so that a model of equal
    experts computes what the dense one does, while the gate still gets the gradient of log p.
    """
    best, experts = torch.topk(logits, k, dim=-1)
    if k == 1:
        chances = torch.softmax(logits, dim=-1).gather(-1, experts)
        return Choice(experts, chances / chances.detach())
    return Choice(experts, torch.softmax(best, dim=-1))


def route(experts: Experts, gate: Gate, hidden: Tensor, plan: Plan, *, k: int) -> Tensor:
    """`hidden` (batch, tokens, width) through the experts that the gate chooses, summed by weight."""
    logits = gate.logits(hidden, plan.valid)
    plan.gates.append(logits)
    rows = hidden.reshape(-1, hidden.shape[-1]) if gate.by_token else hidden
    return dispatch(experts, rows, choose(logits, k=k)).view_as(hidden)


def dispatch(experts: Experts, rows: Tensor, choice: Choice) -> Tensor:
    """Rows (rows, ..., width) through their experts: sorted, so that each expert computes one slice."""
    k = choice.experts.shape[-1]
    flat = choice.experts.reshape(-1)
    order = torch.argsort(flat, stable=True)
    weights = choice.weights.reshape(-1)[order]
    sources = order // k
    out = torch.zeros_like(rows)
    for part in slices_of(torch.bincount(flat, minlength=len(experts)).tolist()):
        mine = sources[part.start : part.stop]
        share = weights[part.start : part.stop].view(-1, *[1] * (rows.dim() - 1))
        out = out.index_add(0, mine, experts.run(part.expert, rows[mine]) * share.to(rows.dtype))
    return out


@dataclass(frozen=True, slots=True)
class RouterLosses:
    """Scalars that teach gates, averaged over the layers; the last two need labels."""

    load_balance: Tensor
    mutual_information: Tensor | None
    specified_expert: Tensor | None


def router_losses(
    gates: list[Tensor], *, valid: Tensor | None, labels: Tensor | None, by_token: bool, k: int
) -> RouterLosses:
    """The losses of one forward, from each layer's logits (rows, experts) and the texts' labels (batch,)."""
    keep, targets = None, labels
    if by_token and valid is not None:
        keep = valid.reshape(-1).bool()
    if by_token and labels is not None:
        tokens = gates[0].shape[0] // labels.shape[0]
        targets = labels.repeat_interleave(tokens)
    if keep is not None:
        gates = [logits[keep] for logits in gates]
        targets = None if targets is None else targets[keep]
    balance = torch.stack([load_balance(logits, k=k) for logits in gates]).mean()
    if targets is None:
        return RouterLosses(balance, None, None)
    information = torch.stack([mutual_information(logits, targets) for logits in gates]).mean()
    return RouterLosses(balance, information, specified_expert(gates, targets))


def check_labels(labels: Tensor, *, texts: int, experts: int) -> None:
    """Refuse labels from which losses would be wrong, or an index error far from its cause.

    Raises:
        ValueError: they are not one expert of the model for each text.
    """
    if tuple(labels.shape) != (texts,):
        raise ValueError(f"expert_labels has shape {tuple(labels.shape)}; this batch needs {(texts,)}")
    if labels.dtype != torch.long:
        raise ValueError(f"expert_labels must be of type torch.int64, not {labels.dtype}")
    if texts and not 0 <= int(labels.min()) <= int(labels.max()) < experts:
        raise ValueError(f"expert_labels must be from 0 to {experts - 1}")


def load_balance(logits: Tensor, *, k: int) -> Tensor:
    """Experts x sum of (mean probability x share of rows); 1 when even (Fedus et al., JMLR 2022)."""
    count = logits.shape[-1]
    chosen = torch.topk(logits, k, dim=-1).indices
    share = torch.bincount(chosen.reshape(-1), minlength=count).to(logits.dtype) / chosen.numel()
    return count * (torch.softmax(logits, dim=-1).mean(dim=0) * share).sum()


def mutual_information(logits: Tensor, labels: Tensor) -> Tensor:
    """Minus the mutual information, in nats, of label and expert under the gate's mass (Chen et al.,
    Mod-Squad, CVPR 2023): lower is better, and the gradient reaches the gate.
    """
    chances = torch.softmax(logits.float(), dim=-1)  # (rows, experts)
    table = torch.zeros(int(labels.max()) + 1, chances.shape[-1], device=chances.device)
    joint = table.index_add(0, labels, chances) / len(labels)  # P(label, expert)
    apart = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    tiny = torch.finfo(joint.dtype).tiny
    return -(joint * ((joint + tiny).log() - (apart + tiny).log())).sum()


def specified_expert(gates: list[Tensor], labels: Tensor) -> Tensor:
    """Cross-entropy of the logits, averaged over the layers, against each row's expert."""
    return nn.functional.cross_entropy(torch.stack(gates).mean(dim=0).float(), labels)
