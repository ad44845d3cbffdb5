"""Vectors by torch: the general expert at once, others when a text first needs them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from moe_retrieval.engines.batches import Budget
from moe_retrieval.errors import ModelError
from moe_retrieval.types import GENERAL, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from moe_retrieval.model.bert import MoEBertModel
    from moe_retrieval.model.packs import Pack
    from moe_retrieval.model.source import ModelSource

# On a CPU, batches whose activations stay near the cache; on a GPU, batches that fill it.
_CPU_BUDGET = Budget(tokens=4_096, texts=64)
_GPU_BUDGET = Budget(tokens=65_536, texts=1_024)


class TorchEngine:
    """A model for inference. Weights do not change once an expert is attached: threads share them."""

    def __init__(
        self, model: MoEBertModel, *, source: ModelSource, experts: Mapping[str, Pack | int], pooling: str
    ) -> None:
        self._model = model
        self._source = source
        self._experts = experts
        self._pooling = pooling
        self._slots = {GENERAL: 0}
        self._attaching = threading.Lock()
        self.budget = _CPU_BUDGET if model.device.type == "cpu" else _GPU_BUDGET

    @classmethod
    def load(
        cls,
        source: ModelSource,
        *,
        experts: Mapping[str, Pack | int],
        pooling: str,
        precision: Precision,
        device: str,
    ) -> TorchEngine:
        """Read trunk and general expert; `experts` says where others are: a pack, or a number in `source`.

        Raises:
            ModelError: the weights do not fit the configuration, or the device does not exist.
        """
        import torch

        from moe_retrieval.model.loading import load_model

        model = load_model(source, experts=[0], moe_layers=range(source.layers))
        dtype = torch.bfloat16 if precision is Precision.BF16 else torch.float32
        try:
            model = model.to(device=torch.device(device), dtype=dtype)
        except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
            raise ModelError(f"the device {device!r} cannot be used: {error}", hint="--device cpu") from error
        return cls(model.requires_grad_(requires_grad=False), source=source, experts=experts, pooling=pooling)

    def embed(self, token_ids: Sequence[Sequence[int]], *, expert: str) -> NDArray[np.float32]:
        """Pooled vectors (n, dim), not normalised; rows in the order given.

        Raises:
            ModelError: the expert is unknown, or does not fit the model.
        """
        import torch

        slot = self._slot(expert)
        ids, mask = _pad(token_ids, pad=self._source.config["pad_token_id"] or 0)
        device = self._model.device
        with torch.inference_mode():
            hidden = self._model(
                input_ids=ids.to(device),
                # without padding, attention runs without a mask, which is faster
                attention_mask=None if mask is None else mask.to(device),
                expert_ids=torch.full((len(token_ids),), slot),
            ).last_hidden_state
            vectors: NDArray[np.float32] = _pool(hidden, mask, how=self._pooling).cpu().numpy()
        return vectors

    def _slot(self, expert: str) -> int:
        """Number of an expert in the layers; reads it when it is first needed."""
        if expert in self._slots:
            return self._slots[expert]
        with self._attaching:
            if expert not in self._slots:
                self._slots[expert] = self._attach(expert)
            return self._slots[expert]

    def _attach(self, expert: str) -> int:
        from moe_retrieval.model.loading import attach, read_expert, read_state

        place = self._experts.get(expert)
        if place is None:
            raise ModelError(
                f"the expert {expert[:12]!r} was not loaded", hint="name it when the encoder is loaded"
            )
        if isinstance(place, int):
            return attach(
                self._model,
                expert,
                read_expert(self._source, place),
                where=f"expert {place} of {self._source.folder}",
            )
        return attach(self._model, expert, read_state([place.weights]), where=str(place.folder))


def _pad(token_ids: Sequence[Sequence[int]], *, pad: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Ids (n, longest), and a mask of the same shape; no mask where nothing is padded."""
    import torch

    longest = max(map(len, token_ids))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in token_ids])
    lengths = torch.tensor([len(row) for row in token_ids])
    if int(lengths.min()) == longest:
        return ids, None
    return ids, (torch.arange(longest) < lengths[:, None]).long()


def _pool(hidden: torch.Tensor, mask: torch.Tensor | None, *, how: str) -> torch.Tensor:
    """(n, tokens, dim) -> (n, dim), summed in float32 whatever the weights are."""
    if how == "cls":
        return hidden[:, 0].float()
    if mask is None:
        return hidden.float().mean(dim=1)
    weights = mask.to(hidden.device, hidden.dtype).unsqueeze(-1)  # (n, tokens, 1)
    return (hidden * weights).float().sum(dim=1) / weights.float().sum(dim=1)
