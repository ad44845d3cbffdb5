"""Small models of every family for the tests of this folder and of parity: dense, and with experts."""

from __future__ import annotations

import functools
from typing import Any

import torch

from tests.tiny_model import different

TOKENS, TEXTS = 16, 6
SPECIAL = {"bert": 0, "roberta": 1, "xlm-roberta": 1, "mpnet": 1, "modernbert": 0}
"""Family -> id of its padding."""


@functools.cache
def dense(family: str) -> Any:
    """A random dense model of a family with 4 layers; it is never changed."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(
        family,
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        initializer_range=0.2,
        pad_token_id=SPECIAL[family],
        **({"local_attention": 8, "cls_token_id": 2, "sep_token_id": 3} if family == "modernbert" else {}),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return AutoModel.from_config(config).eval()


def upcycled(family: str, *names: str, layers: list[int] | None = None) -> Any:
    """A fresh model with experts of these names beside general, each with weights of its own."""
    from moe_retrieval.model import surgery

    return different(surgery.upcycle(dense(family), moe_layers=layers), *names)


def batch(family: str, *, seed: int = 0, texts: int = TEXTS) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (texts, tokens), padded at random on the right, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 100, (texts, TOKENS), generator=generator)
    ids[:, 0] = 2
    lengths = torch.randint(2, TOKENS + 1, (texts, 1), generator=generator)
    mask = (torch.arange(TOKENS) < lengths).long()
    return torch.where(mask.bool(), ids, SPECIAL[family]), mask


def hidden(model: Any, ids: torch.Tensor, mask: torch.Tensor, **more: Any) -> torch.Tensor:
    """Hidden states of the tokens that are no padding, one below the other: (tokens of all texts, width)."""
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=ids, attention_mask=mask, **more).last_hidden_state
    copies = len(out) // len(mask)
    return out[mask.repeat(copies, 1).bool()]
