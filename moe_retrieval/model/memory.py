"""Tensors of a model in memory: by the names of its files, with their digests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import ModelError
from moe_retrieval.model.weights import RawTensor, canonical_name, digests_of, feed_forward_name, row_name

if TYPE_CHECKING:
    import torch

    from moe_retrieval.model.weights import Digests


def digests(model: Any) -> Digests:
    """Digests of a model in memory; the same as those of the files it would be saved to."""
    return digests_of(raw_tensors(model))


def raw_tensors(model: Any) -> dict[str, RawTensor]:
    """The encoder's tensors by canonical name."""
    named = ((canonical_name(name), tensor) for name, tensor in model.state_dict().items())
    return {name: _raw(tensor) for name, tensor in named if name is not None}


def _raw(tensor: torch.Tensor) -> RawTensor:
    import torch

    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    if tensor.dtype not in names:
        raise ModelError(
            f"weights of type {tensor.dtype} cannot be saved", hint="use float32, bfloat16 or float16"
        )
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return RawTensor(names[tensor.dtype], tuple(tensor.shape), flat.numpy().data)


def dense_state(model: Any, number: int) -> dict[str, torch.Tensor]:
    """Tensors of one expert of a model in memory, by the names they have in a pack."""
    state: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        place, row = feed_forward_name(name), row_name(name)
        if place is not None and place.expert == number and f".experts.{number}." in name:
            state[place.dense] = tensor
        elif row is not None and row.expert == number:
            state[row.part] = tensor
    return state
