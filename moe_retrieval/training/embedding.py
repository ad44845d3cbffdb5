"""Vectors by a model in training: what validation looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from moe_retrieval.engines.batches import Budget, plan_batches
from moe_retrieval.errors import BadVectorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moe_retrieval.training.feeding import Feeder
    from moe_retrieval.training.pair_model import PairModel
    from moe_retrieval.training.validation import Embed

_BUDGET = Budget(tokens=8_192, texts=128)


def multiplies_bf16(*, on_cpu: bool) -> bool:
    """Whether training in bf16 is faster than in fp32 on this machine."""
    from moe_retrieval.engines.precision import resolve_precision
    from moe_retrieval.types import Precision

    return resolve_precision(Precision.AUTO, device="cpu" if on_cpu else "cuda") is Precision.BF16


def embedding(model: PairModel, feeder: Feeder, *, bf16: bool | None = None) -> Embed:
    """Texts and their domain in, unit vectors out, by a model in training; dropout is off meanwhile.

    `bf16` None: where the device multiplies it. `embed` raises `BadVectorError` where a vector is not finite.
    """

    def embed(texts: Sequence[str], domain: str, side: str) -> NDArray[np.float32]:
        training = model.training
        model.eval()
        try:
            return _embedded(model, feeder, texts, domain, side, bf16=bf16)
        finally:
            model.train(training)

    return embed


def _embedded(
    model: PairModel, feeder: Feeder, texts: Sequence[str], domain: str, side: str, *, bf16: bool | None
) -> NDArray[np.float32]:
    device = next(model.parameters()).device
    enabled = multiplies_bf16(on_cpu=device.type == "cpu") if bf16 is None else bf16
    cast = torch.autocast(device.type, torch.bfloat16, enabled=enabled)
    rows: dict[int, NDArray[np.float32]] = {}
    with torch.inference_mode(), cast:
        for places in plan_batches(feeder.lengths(texts, domain, side=side), budget=_BUDGET):
            batch = feeder.texts([texts[place] for place in places], domain, side=side).to(device)
            vectors, _ = model.embed(batch)
            unit = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
            rows |= dict(zip(places, unit, strict=True))
    found = np.stack([rows[place] for place in range(len(texts))])
    if not np.isfinite(found).all():
        raise BadVectorError(
            "the model gives vectors that are not finite", hint="fetch it again, or a lower --rate"
        )
    return found
