"""The pooling head of the paper: what may follow the mean of the tokens, shared by all experts."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn


class PoolingHead(nn.Module):
    """LayerNorm, linear, tanh, linear: (n, inputs) -> (n, outputs)."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.dense = nn.Linear(inputs, hidden)
        self.out = nn.Linear(hidden, outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        out: Tensor = self.out(torch.tanh(self.dense(self.norm(pooled))))
        return out

    def save(self, folder: Path | str) -> None:
        """Write config.json and model.safetensors, as sentence-transformers keeps a module."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        sizes = {
            "inputs": self.dense.in_features,
            "hidden": self.dense.out_features,
            "outputs": self.out.out_features,
        }
        (place / "config.json").write_text(json.dumps(sizes, indent=2), "utf-8")
        save_model(self, str(place / "model.safetensors"))

    @classmethod
    def load(cls, folder: Path | str) -> PoolingHead:
        """The head that `save` wrote to a folder."""
        place = Path(folder)
        head = cls(**json.loads((place / "config.json").read_text("utf-8")))
        load_model(head, str(place / "model.safetensors"))
        return head
