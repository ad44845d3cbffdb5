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
    """Token ids (n, tokens), padded, the mask of what is no padding, and the expert of each text, (n,)."""

    ids: Tensor
    mask: Tensor
    experts: Tensor

    def to(self, device: torch.device) -> Texts:
        """The same on a device; but for the experts, by which a forward is planned on the CPU."""
        return Texts(self.ids.to(device), self.mask.to(device), self.experts)

    def parts(self, size: int) -> list[Texts]:
        """The same texts in parts of at most `size`; 0: in one."""
        if not size:
            return [self]
        pieces = (torch.split(whole, size) for whole in (self.ids, self.mask, self.experts))
        return [Texts(*piece) for piece in zip(*pieces, strict=True)]


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
        if self.encoder.config.learned:
            routing = {"expert_labels": texts.experts.to(texts.ids.device)}
        else:
            routing = {"expert_ids": texts.experts}
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
        steps = [self._steps(texts, share=1 / len(groups)) for texts in groups]
        leaves = [torch.cat([step.first() for step in own]).requires_grad_() for own in steps]
        weights = [weight for weight in self.loss.parameters() if weight.requires_grad]
        loss: Tensor = self.contrast * self.loss(*leaves)
        found = torch.autograd.grad(loss, [*leaves, *weights], allow_unused=True, materialize_grads=True)
        flat = [step for own in steps for step in own]
        grads = torch.split(torch.cat(found[: len(leaves)]), [step.count for step in flat])
        total = (
            loss.detach() + torch.stack([step.extra * step.share for step in flat]).sum()
        ).requires_grad_()
        again = partial(_again, parts=(flat, grads), loss=(weights, found[len(leaves) :]))
        total.register_hook(again)  # type: ignore[no-untyped-call]
        return total

    def _steps(self, texts: Texts, *, share: float) -> list[_Step]:
        """The parts of a group whose gates' losses count `share`: each part by its number of texts."""
        each = share / len(texts.ids)
        return [_Step(self, part, share=each * len(part.ids)) for part in texts.parts(self.chunk)]


def _again(
    outer: Tensor,
    *,
    parts: tuple[Sequence[_Step], Sequence[Tensor]],
    loss: tuple[Sequence[Tensor], Sequence[Tensor]],
) -> None:
    """Give the encoder's weights their gradient, part by part, and the loss's own weights theirs."""
    for step, grad in zip(*parts, strict=True):
        step.second(grad * outer, outer * step.share)
    for weight, grad in zip(*loss, strict=True):
        weight.grad = grad * outer if weight.grad is None else weight.grad + grad * outer


class _Step:
    """One part of a batch, encoded without its gradient, and later again with it, by the same dropout.

    `share`: what its gates' losses count in those of the batch.
    """

    def __init__(self, model: PairModel, texts: Texts, *, share: float) -> None:
        self._model, self._texts = model, texts
        self.count, self.share = len(texts.ids), share
        self._device = texts.ids.device
        self._cast = torch.is_autocast_enabled(self._device.type), torch.get_autocast_dtype(self._device.type)
        self._noise = torch.get_rng_state()
        self._own: Tensor | None = None
        self.extra = torch.zeros(())

    def first(self) -> Tensor:
        """The vectors, and in `extra` the losses of the gates."""
        self._noise = torch.get_rng_state()  # as it is now: the parts before this one have drawn from it
        self._own = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
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
