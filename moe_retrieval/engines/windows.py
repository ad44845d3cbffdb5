"""Texts of any length through an engine: windows, batches of like lengths, one averaged vector per text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.engines.averaging import TextVectors
from moe_retrieval.engines.batches import plan_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from moe_retrieval.engines.engine import Engine
    from moe_retrieval.engines.head import Head
    from moe_retrieval.engines.tokens import Tokens


def embed_texts(
    engine: Engine,
    tokens: Tokens,
    texts: Sequence[str],
    *,
    experts: Sequence[str],
    dim: int,
    prompt: str = "",
    head: Head | None = None,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Unit vectors (experts, n, dim) of texts under experts that share a tokenizer.

    `head` follows the pooling of each window. `progress` hears after each batch how many texts got ready.

    Raises:
        BadVectorError: the model gave a vector that is not finite, or zero.
    """
    windows = tokens.windows(texts, prompt=prompt)
    flat = [window for own in windows for window in own]
    owners = np.repeat(np.arange(len(texts)), [len(own) for own in windows])
    outs = [TextVectors(owners, texts=len(texts), dim=dim) for _ in experts]
    lengths = [len(window) for window in flat]
    for batch in plan_batches(lengths, budget=engine.budget):
        found = engine.embed([flat[place] for place in batch], experts=experts)
        found = found if head is None else head(found)
        # an empty text has special tokens only, and still counts
        weights = [max(1, lengths[place] - tokens.special) for place in batch]
        done = [out.add(batch, part, weights=weights) for out, part in zip(outs, found, strict=True)]
        if progress is not None:
            progress(done[0])
    return np.stack([out.finished() for out in outs])
