"""The pooling head without torch, for every engine: LayerNorm, linear, tanh, linear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from moe_retrieval.model.source import ModelSource

_EPSILON = 1e-5  # torch's default, with which the head is trained
_PARTS = ("norm.weight", "norm.bias", "dense.weight", "dense.bias", "out.weight", "out.bias")


@dataclass(frozen=True, slots=True)
class Head:
    """Weights of a head, float32, by their names in its file."""

    weights: Mapping[str, NDArray[np.float32]]

    @classmethod
    def of(cls, source: ModelSource) -> Head | None:
        """The head of a model folder, if it has one.

        Raises:
            ModelError: the file is damaged, or the shapes are not those its folder promises.
        """
        import safetensors
        from safetensors.numpy import load_file

        file, inputs, outputs = source.head, source.config["hidden_size"], source.dim
        if file is None:
            return None
        try:
            weights = {name: tensor.astype(np.float32) for name, tensor in load_file(file).items()}
        except (safetensors.SafetensorError, OSError) as error:
            raise ModelError(f"{file} cannot be read: {error}", hint="fetch the model again") from error
        said = set(weights) == set(_PARTS) and (weights["dense.weight"].shape[1], len(weights["out.weight"]))
        if said != (inputs, outputs):
            raise ModelError(
                f"{file} is no head from {inputs} to {outputs} values", hint="fetch the model again"
            )
        return cls(weights)

    def __call__(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pooled vectors (..., inputs) -> (..., outputs)."""
        own = self.weights
        centred = pooled - pooled.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + _EPSILON)
        normed = centred / spread * own["norm.weight"] + own["norm.bias"]
        inner = np.tanh(normed @ own["dense.weight"].T + own["dense.bias"])
        out: NDArray[np.float32] = (inner @ own["out.weight"].T + own["out.bias"]).astype(np.float32)
        return out
