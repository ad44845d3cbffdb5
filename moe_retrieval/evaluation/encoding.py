"""An encoder that computes no text twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from moe_retrieval.encoder import Encoder


class OnceEncoder:
    """An encoder with a memory of what it has encoded, for as long as one evaluation takes.

    Texts are told apart by expert and by prompt; domains that share an expert share its vectors.
    `progress` hears how many texts were computed.
    """

    def __init__(self, encoder: Encoder, *, progress: Callable[[int], None] | None = None) -> None:
        self.encoder = encoder
        self._progress = progress
        self._known: dict[tuple[str, str], dict[str, NDArray[np.float32]]] = {}

    def queries(self, texts: Sequence[str], *, domain: str) -> NDArray[np.float32]:
        """Unit vectors (n, dim) of queries."""
        return self._vectors(texts, domain, prompt=self.encoder.query_prompt)

    def documents(self, texts: Sequence[str], *, domain: str) -> NDArray[np.float32]:
        """Unit vectors (n, dim) of documents."""
        return self._vectors(texts, domain, prompt=self.encoder.document_prompt)

    def _vectors(self, texts: Sequence[str], domain: str, *, prompt: str) -> NDArray[np.float32]:
        known = self._known.setdefault((self.encoder.expert_of(domain), prompt), {})
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, self._computed(new, domain, prompt=prompt), strict=True))
        if not texts:
            return np.empty((0, self.encoder.dim), np.float32)
        return np.stack([known[text] for text in texts])

    def _computed(self, texts: list[str], domain: str, *, prompt: str) -> NDArray[np.float32]:
        if prompt == self.encoder.document_prompt:
            return self.encoder.encode_document(texts, domain=domain, progress=self._progress)
        vectors = self.encoder.encode_query(texts, domain=domain)
        if self._progress is not None:
            self._progress(len(texts))
        return vectors


def once(encoder: Encoder | OnceEncoder) -> OnceEncoder:
    """The encoder, with a memory if it has none."""
    return encoder if isinstance(encoder, OnceEncoder) else OnceEncoder(encoder)
