"""What sentence-transformers cannot do by itself: domains with words of their own, and the pooling head.

Other saved models need nothing from here: `SentenceTransformer(folder).encode(texts, domain="cvd")` works as
soon as `moe_retrieval.integrations.huggingface` was imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sentence_transformers.base.modules import Module, Transformer

from moe_retrieval.engines.pooling import padded
from moe_retrieval.engines.tokens import Tokens
from moe_retrieval.model.head import PoolingHead
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ExpertHead", "ExpertTransformer"]


class ExpertTransformer(Transformer):  # type: ignore[misc]
    """The Transformer module of sentence-transformers for models whose domains have words of their own."""

    forward_kwargs: ClassVar[set[str]] = {"domain"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._folder = str(args[0] if args else kwargs["model_name_or_path"])
        self._worded: dict[str, Tokens] = {}

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, domain: str | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Token ids and masks; a domain with words of its own has its own tokens."""
        expert = self.config.domains.get(domain, GENERAL)
        if words := self.config.vocabulary.get(expert):
            return self._with_words(list(inputs), prompt or "", expert, words)
        features: dict[str, Any] = super().preprocess(inputs, prompt=prompt, **kwargs)
        return features

    def forward(self, features: dict[str, Any], domain: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Adds `token_embeddings` (texts, tokens, width), by the domain's expert."""
        told: dict[str, Any] = super().forward(features, domain=domain, **kwargs)
        return told

    def _with_words(self, texts: list[str], prompt: str, expert: str, words: list[str]) -> dict[str, Any]:
        if expert not in self._worded:
            limit = int(self.max_seq_length)
            plain = Tokens(Path(self._folder) / "tokenizer.json", max_length=limit)
            self._worded[expert] = plain.with_words(words, first=self.config.vocab_size)
        ids = [self._worded[expert].cut(text, prompt=prompt) for text in texts]
        rows, mask = padded(ids, pad=self.config.pad_token_id or 0)
        return {"input_ids": torch.from_numpy(rows), "attention_mask": torch.from_numpy(mask)}


class ExpertHead(Module):  # type: ignore[misc]
    """The pooling head as a module of sentence-transformers: LayerNorm, linear, tanh, linear."""

    config_keys: ClassVar[list[str]] = ["inputs", "hidden", "outputs"]

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.inputs, self.hidden, self.outputs = inputs, hidden, outputs
        self.head = PoolingHead(inputs, hidden, outputs)

    def forward(self, features: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """Replaces `sentence_embedding` (texts, inputs) by (texts, outputs)."""
        return {**features, "sentence_embedding": self.head(features["sentence_embedding"])}

    def get_embedding_dimension(self) -> int:
        """Width of the vectors that come out."""
        return self.outputs

    def save(self, output_path: str, *_args: Any, **_kwargs: Any) -> None:
        """Write config.json and model.safetensors."""
        self.head.save(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> ExpertHead:
        """Read what `save` wrote."""
        places = {
            name: value
            for name, value in kwargs.items()
            if name in ("token", "cache_folder", "revision", "local_files_only")
        }
        config = cls.load_config(model_name_or_path, subfolder=subfolder, **places)
        module = cls(**{name: config[name] for name in cls.config_keys})
        cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=module.head, **places)
        return module
