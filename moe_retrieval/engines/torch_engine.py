"""Vectors by torch: the general expert at once, others when a text first needs them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from moe_retrieval.engines.batches import Budget
from moe_retrieval.errors import ModelError
from moe_retrieval.types import GENERAL, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from moe_retrieval.model.packs import Pack
    from moe_retrieval.model.source import ModelSource

# On a CPU, batches whose activations stay near the cache; on a GPU, batches that fill it.
_CPU_BUDGET = Budget(tokens=4_096, texts=64)
_GPU_BUDGET = Budget(tokens=65_536, texts=1_024)


class TorchEngine:
    """A model for inference. Weights do not change once an expert is attached: threads share them."""

    def __init__(
        self,
        source: ModelSource,
        *,
        experts: Mapping[str, Pack | int],
        pooling: str,
        precision: Precision,
        device: str,
    ) -> None:
        self._source = source
        self._places: dict[str, Pack | int] = {GENERAL: 0, **experts}
        self._pooling = pooling
        self._precision = precision
        self._device = device
        self._model: Any = None
        self._slots: dict[str, int] = {}
        self._attaching = threading.Lock()
        self.budget = _GPU_BUDGET if device.startswith("cuda") else _CPU_BUDGET

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
        """An engine that reads an expert, and with the first one the trunk, when a text needs it.

        `experts` says where those beside general are: a pack, or a number in `source`.

        Raises:
            ModelError: the device does not exist.
        """
        import torch

        try:
            torch.empty(0, device=torch.device(device))
        except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
            raise ModelError(f"the device {device!r} cannot be used: {error}", hint="--device cpu") from error
        return cls(source, experts=experts, pooling=pooling, precision=precision, device=device)

    def embed(self, token_ids: Sequence[Sequence[int]], *, experts: Sequence[str]) -> NDArray[np.float32]:
        """Pooled vectors (experts, n, dim), not normalised, of the same texts under each expert: one batch.

        The layers below the first one with experts run once.

        Raises:
            ModelError: an expert is unknown, or does not fit the model.
        """
        import torch

        slots = [self._slot(expert) for expert in experts]
        ids, mask = _pad(token_ids, pad=self._source.config["pad_token_id"] or 0)
        with torch.inference_mode():
            hidden = self._model(
                input_ids=ids.to(self._device),
                # without padding, attention runs without a mask, which is faster
                attention_mask=None if mask is None else mask.to(self._device),
                **self._routing(slots, texts=len(ids)),
            ).last_hidden_state  # (experts * n, tokens, dim)
            if mask is not None and len(hidden) != len(mask):
                mask = mask.repeat(len(experts), 1)
            vectors: NDArray[np.float32] = _pool(hidden, mask, how=self._pooling).cpu().numpy()
        return vectors.reshape(-1, len(ids), vectors.shape[-1])

    def prepare(self, expert: str) -> None:
        """Read the expert, and with the first one the trunk."""
        self._slot(expert)

    def _routing(self, slots: Sequence[int], *, texts: int) -> dict[str, torch.Tensor]:
        """What tells the model the experts: nothing where a gate chooses."""
        import torch

        if self._source.roster.learned:
            return {}
        if len(slots) == 1:
            return {"expert_ids": torch.full((texts,), slots[0])}
        return {"fan_out": torch.tensor(slots)}

    def _slot(self, expert: str) -> int:
        """Number of an expert in the layers; reads it when it is first needed."""
        if expert in self._slots:
            return self._slots[expert]
        with self._attaching:
            if expert not in self._slots:
                self._slots[expert] = self._read(expert)
            return self._slots[expert]

    def _read(self, expert: str) -> int:
        from moe_retrieval.model.loading import attach, expert_state, load_single

        place = self._places.get(expert)
        if place is None:
            raise ModelError(
                f"the expert {expert[:12]!r} was not loaded", hint="name it when the encoder is loaded"
            )
        if self._model is None:
            model = load_single(self._source, place, moe_layers=self._layers())
            self._model = self._placed(model)
            return 0
        state = expert_state(self._source, place, layers=self._layers())
        words = words_of(self._source, place)
        return attach(self._model, expert, state, where=str(self._source.folder), words=words)

    def _layers(self) -> list[int]:
        """Layers that have an expert of their own somewhere; the others stay one module for all."""
        layers: set[int] = set()
        for place in self._places.values():
            own = () if place == 0 else self._source.moe_layers
            layers.update(own if isinstance(place, int) else place.card.layers)
        return sorted(layers or self._source.moe_layers)

    def _placed(self, model: Any) -> Any:
        import torch

        dtype = torch.bfloat16 if self._precision is Precision.BF16 else torch.float32
        return model.to(device=torch.device(self._device), dtype=dtype).requires_grad_(requires_grad=False)


def words_of(source: ModelSource, place: Pack | int) -> Sequence[str]:
    """Words that are one token for this expert alone."""
    if isinstance(place, int):
        return source.roster.vocabulary.get(source.experts[place], ())
    return place.words


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
