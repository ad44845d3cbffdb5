"""A model of one expert in the form that exporters trace: ids and mask in, hidden states out."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from moe_retrieval.model.packs import Pack
    from moe_retrieval.model.source import ModelSource


@contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks of tracers and exporters, about branches that are the same for every text."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def traceable(source: ModelSource, place: Pack | int) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """A module of one expert, in fp32, and example inputs: ids and mask (2, 12), the second text padded."""
    import torch
    from torch import nn

    from moe_retrieval.model.loading import load_single

    class Traced(nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.model(
                input_ids=input_ids, attention_mask=attention_mask, return_dict=False
            )[0]
            return out

    model = load_single(source, place).float().requires_grad_(requires_grad=False)
    if source.family == "modernbert":
        # under a window padding sees nothing, of which a graph's fused attention makes NaN, the plain one not
        model.set_attn_implementation("eager")
    ids = torch.arange(5, 29).view(2, 12) % source.config["vocab_size"]
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    return Traced(model).eval(), (ids, mask)
