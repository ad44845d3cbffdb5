"""An encoder with a loss around it: token ids of a batch of pairs in, one number out."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from moe_retrieval.training.options import GateWeights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_retrieval.training.losses import ContrastiveLoss


@dataclass(frozen=True, slots=True)
class Texts:
    """Token ids (n, tokens), padded, and the mask of what is no padding, for texts of one expert."""

    ids: Tensor
    mask: Tensor
    expert: int

    def to(self, device: torch.device) -> Texts:
        """The same on a device."""
        return Texts(self.ids.to(device), self.mask.to(device), self.expert)

    def parts(self, size: int) -> list[Texts]:
        """The same texts in parts of at most `size`; 0: in one."""
        if not size:
            return [self]
        pieces = zip(torch.split(self.ids, size), torch.split(self.mask, size), strict=True)
        return [Texts(ids, mask, self.expert) for ids, mask in pieces]


def gate_loss(out: Any, weights: GateWeights) -> Tensor:
    """The weighted sum of what a forward says of its gates; zero for a model without any."""
    losses = {
        "mutual_information_loss": weights.mutual_information,
        "load_balance_loss": weights.load_balance,
        "specified_expert_loss": weights.specified_expert,
    }
    found = [(getattr(out, name, None), weight) for name, weight in losses.items()]
    parts = [loss * weight for loss, weight in found if loss is not None and weight]
    total: Tensor = torch.stack(parts).sum() if parts else out.last_hidden_state.new_zeros(())
    return total


class PairModel(nn.Module):
    """`encoder` with pooling, the pooling head if it has one, and the loss that trains them.

    `chunk`: texts that are encoded at once with their gradient; above zero, a batch of any size takes the
    memory of so many texts, and each text is encoded twice (Gao et al., GradCache, RepL4NLP 2021).
    `contrast`: weight of the loss of the pairs; 0 trains a gate alone.
    """

    def __init__(
        self,
        encoder: Any,
        *,
        loss: ContrastiveLoss,
        pooling: str,
        head: nn.Module | None = None,
        chunk: int = 0,
        gates: GateWeights | None = None,
        contrast: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.loss = encoder, head, loss
        self.pooling, self.chunk = pooling, chunk
        self.gates, self.contrast = gates or GateWeights(), contrast

    def forward(self, a: Texts, b: Texts, negatives: Texts | None = None) -> dict[str, Tensor]:
        """The loss of a batch; row i of a and row i of b belong together."""
        groups = [a, b] if negatives is None else [a, b, negatives]
        if self.chunk and torch.is_grad_enabled():
            return {"loss": self._cached(groups)}
        vectors, extra = zip(*(self.embed(texts) for texts in groups), strict=True)
        return {"loss": self.contrast * self.loss(*vectors) + torch.stack(extra).mean()}

    def embed(self, texts: Texts) -> tuple[Tensor, Tensor]:
        """Vectors (n, dim), not scaled to length one, and the weighted losses of the gates."""
        learned = self.encoder.config.learned
        experts = torch.full((len(texts.ids),), texts.expert)
        routing = {"expert_labels" if learned else "expert_ids": experts}
        if learned:
            routing["expert_labels"] = experts.to(texts.ids.device)
        out = self.encoder(input_ids=texts.ids, attention_mask=texts.mask, **routing)
        pooled = self._pooled(out.last_hidden_state, texts.mask)
        return pooled if self.head is None else self.head(pooled), gate_loss(out, self.gates).float()

    def _pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            return hidden[:, 0].float()
        weights = mask.unsqueeze(-1).float()
        return (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1)

    def _cached(self, groups: Sequence[Texts]) -> Tensor:
        """The loss, whose backward pass encodes the texts once more, part by part."""
        parts = [texts.parts(self.chunk) for texts in groups]
        steps = [[_Step(self, part) for part in own] for own in parts]
        leaves = [torch.cat([step.first() for step in own]).requires_grad_() for own in steps]
        with torch.enable_grad():
            loss: Tensor = self.contrast * self.loss(*leaves)
            loss.backward()  # type: ignore[no-untyped-call]
        flat = [step for own in steps for step in own]
        grads = [leaf.grad for leaf in leaves]
        sizes = [[len(part.ids) for part in own] for own in parts]
        cut = [piece for grad, own in zip(grads, sizes, strict=True) for piece in _pieces(grad, own)]
        total = loss.detach() + torch.stack([step.extra for step in flat]).mean()
        total.requires_grad_()
        total.register_hook(partial(_again, steps=flat, grads=cut))  # type: ignore[no-untyped-call]
        return total


def _pieces(grad: Tensor | None, sizes: list[int]) -> list[Tensor]:
    if grad is None:
        raise RuntimeError("the loss does not depend on its vectors")
    return list(torch.split(grad, sizes))


def _again(outer: Tensor, *, steps: Sequence[_Step], grads: Sequence[Tensor]) -> None:
    for step, grad in zip(steps, grads, strict=True):
        step.second(grad * outer, outer / len(steps))


class _Step:
    """One part of a batch, encoded without its gradient, and later again with it, by the same dropout."""

    def __init__(self, model: PairModel, texts: Texts) -> None:
        self._model, self._texts = model, texts
        self._device = texts.ids.device
        self._cast = torch.is_autocast_enabled(self._device.type), torch.get_autocast_dtype(self._device.type)
        self._noise = torch.get_rng_state()
        self._own = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
        self.extra = torch.zeros(())

    def first(self) -> Tensor:
        """The vectors, and in `extra` the losses of the gates."""
        with torch.no_grad():
            vectors, self.extra = self._model.embed(self._texts)
        return vectors

    def second(self, grad: Tensor, share: Tensor) -> None:
        """Give the weights the gradient that the vectors got, and the gates their losses' share of it."""
        enabled, dtype = self._cast
        cast = torch.autocast(self._device.type, dtype=dtype, enabled=enabled)
        with self._replayed(), torch.enable_grad(), cast:
            vectors, extra = self._model.embed(self._texts)
            (vectors * grad).sum().add(extra * share).backward()  # type: ignore[no-untyped-call]

    @contextmanager
    def _replayed(self) -> Iterator[None]:
        devices = [] if self._own is None else [self._device]
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(self._noise)
            if self._own is not None:
                torch.cuda.set_rng_state(self._own, self._device)
            yield
