"""An encoder as MTEB's models are: what `mteb.evaluate(MtebEncoder(encoder), tasks)` calls.

Follows `mteb.models.EncoderProtocol` of MTEB 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import UsageError
from moe_retrieval.types import GENERAL, slug

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from moe_retrieval.encoder import Encoder

__all__ = ["MtebEncoder"]


class MtebEncoder:
    """An encoder with the expert of one domain, behind MTEB's protocol.

    Queries get the encoder's query prompt, all else its document prompt; prompts of tasks are not used.
    """

    def __init__(self, encoder: Encoder, domain: str = GENERAL) -> None:
        self.encoder, self.domain = encoder, domain

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: str | None = None,
        **_kwargs: Any,
    ) -> NDArray[np.float32]:
        """Unit vectors (n, dim) of the batches' texts; how many go through the model at once is not the
        caller's choice.

        Raises:
            UsageError: a batch holds no text.
        """
        texts = [text for batch in inputs for text in _texts(batch, task=task_metadata)]
        if not texts:
            return np.empty((0, self.encoder.dim), np.float32)
        if prompt_type is not None and str(getattr(prompt_type, "value", prompt_type)) == "query":
            return self.encoder.encode_query(texts, domain=self.domain)
        return self.encoder.encode_document(texts, domain=self.domain)

    def similarity(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> NDArray[np.float32]:
        """Cosines (n, m) of all with all."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> NDArray[np.float32]:
        """Cosines (n,) of each with the one at its place."""
        cosines: NDArray[np.float32] = (_unit(embeddings1) * _unit(embeddings2)).sum(axis=1)
        return cosines

    @property
    def mteb_model_meta(self) -> Any:
        """MTEB's description of the model; its revision is the domain's fingerprint, so that results of
        another expert are never taken for these.

        Raises:
            UsageError: mteb is not installed.
        """
        try:
            from mteb.models.model_meta import ModelMeta, ScoringFunction
        except ImportError as error:
            raise UsageError("describing a model to MTEB needs mteb", hint="pip install mteb") from error
        encoder = self.encoder
        return ModelMeta.create_empty(
            overwrites={
                "name": f"moeret/{slug(Path(encoder.name).name)}-{slug(self.domain)}",
                "revision": encoder.fingerprint(self.domain),
                "max_tokens": encoder.max_length,
                "embed_dim": encoder.dim,
                "similarity_fn_name": ScoringFunction.COSINE,
                "use_instructions": bool(encoder.query_prompt or encoder.document_prompt),
            }
        )


def _texts(batch: Mapping[str, Any], *, task: Any) -> list[str]:
    if "text" not in batch:
        raise UsageError(
            f"{getattr(task, 'name', 'the task')} has inputs without text: {', '.join(batch)}",
            hint="choose tasks of texts",
        )
    return list(batch["text"])


def _unit(vectors: ArrayLike) -> NDArray[np.float32]:
    """Rows (n, dim) of length one; a zero row stays zero."""
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    norms = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
    unit: NDArray[np.float32] = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return unit
