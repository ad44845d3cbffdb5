"""Texts and a domain in, unit vectors out."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.domain_experts import DomainExperts
from moe_retrieval.engines.bundled import BUNDLED, BUNDLED_NAME, find_model
from moe_retrieval.engines.choice import choose_engine, load_engine
from moe_retrieval.engines.head import Head
from moe_retrieval.engines.late import LateEngine
from moe_retrieval.engines.precision import pick_device, resolve_precision
from moe_retrieval.engines.tokens import Tokens, window_length
from moe_retrieval.engines.windows import embed_texts
from moe_retrieval.fingerprint import FingerprintParts, domain_fingerprint
from moe_retrieval.model.packs import open_pack
from moe_retrieval.model.source import check_pooling
from moe_retrieval.types import GENERAL, EngineName, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from moe_retrieval.engines.engine import Engine
    from moe_retrieval.model.packs import Pack
    from moe_retrieval.model.source import ModelSource


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOptions:
    """What `Encoder.load` was told; None, "" and auto leave it to the model's folder and the device."""

    precision: Precision
    engine: EngineName
    cache: Path | None
    device: str | None
    max_length: int | None
    query_prompt: str
    document_prompt: str
    pooling: str | None


class Encoder:
    """A model, its experts and its tokenizer. The engine is loaded by the first text that is encoded.

    Attributes:
        name: name of the model.
        dim: width of the vectors.
        experts: which expert serves which domain.
        max_length: tokens a model sees at once, special tokens included; longer texts are encoded in windows.
    """

    def __init__(self, source: ModelSource, *, packs: Mapping[str, Pack], options: EncoderOptions) -> None:
        self.source = source
        self.name = source.name
        self.dim = source.dim
        self.max_length = window_length(source, options.max_length)
        self.query_prompt = options.query_prompt or source.prompts.get("query", "")
        self.document_prompt = options.document_prompt or source.prompts.get("document", "")
        self.pooling = check_pooling(options.pooling or source.pooling)
        self.experts = DomainExperts(source, packs)
        self._head = Head.of(source)
        self._options = options
        self._loading = threading.Lock()
        self._engine = LateEngine()
        self._extended: dict[str, Tokens] = {}

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        experts: Mapping[str, Path] | None = None,
        precision: Precision = Precision.AUTO,
        engine: EngineName = EngineName.AUTO,
        cache: Path | None = None,
        device: str | None = None,
        max_length: int | None = None,
        query_prompt: str = "",
        document_prompt: str = "",
        pooling: str | None = None,
    ) -> Encoder:
        """Check a model and its experts, and make an encoder of them; weights are read at the first text.

        Args:
            model: None or "bundled", a model folder, or a hub id.
            experts: domain -> folder of an exported expert; they come before those inside the model.
            precision: number format; auto is bf16 where the device computes in it.
            engine: what computes; auto is the fastest that is installed for the device.
            cache: folder for exported graphs (OpenVINO, onnxruntime); None: the user's cache.
            device: a torch device; None: cuda where there is one, else cpu.
            max_length: tokens per window; None: the model's own limit.
            query_prompt: put before every query; empty: the one the model's folder names, if any.
            document_prompt: put before every document; empty: the one the model's folder names, if any.
            pooling: mean or cls; None: what the model's folder says.

        Raises:
            ModelError: the model or an expert cannot be used.
            ChecksumError: weights are not the promised ones.
            ModelMismatchError: an expert was trained on another model.
            MissingExtraError: the bundled model is not installed.
            UsageError: max_length is out of range.
        """
        source = find_model(model)
        packs = {domain: open_pack(folder) for domain, folder in sorted((experts or {}).items())}
        options = EncoderOptions(
            precision=Precision(precision),
            engine=EngineName(engine),
            cache=cache,
            device=device,
            max_length=max_length,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            pooling=pooling,
        )
        return cls(source, packs=packs, options=options)

    # --- vectors ------------------------------------------------------------------------------------------

    def encode_query(self, texts: Sequence[str], *, domain: str = GENERAL) -> NDArray[np.float32]:
        """Unit vectors (n, dim) of queries, by the domain's expert.

        Raises:
            BadVectorError: the model gave a vector that is not finite, or zero.
        """
        vectors: NDArray[np.float32]
        (vectors,) = self._across(texts, experts=[self.expert_of(domain)], prompt=self.query_prompt)
        return vectors

    def encode_document(
        self, texts: Sequence[str], *, domain: str = GENERAL, progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Unit vectors (n, dim) of documents, by the domain's expert; `progress` hears how many got ready.

        Raises:
            BadVectorError: the model gave a vector that is not finite, or zero.
        """
        experts = [self.expert_of(domain)]
        vectors: NDArray[np.float32]
        (vectors,) = self._across(texts, experts=experts, prompt=self.document_prompt, progress=progress)
        return vectors

    def encode_query_across(self, texts: Sequence[str], *, domains: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (domains, n, dim) of the same queries, by each domain's expert.

        Domains that share an expert are encoded once; the others go through the model in one batch, where
        the layers below the first one with experts run once.

        Raises:
            BadVectorError: the model gave a vector that is not finite, or zero.
        """
        experts = [self.expert_of(domain) for domain in domains]
        # words of its own make a domain's token ids its own, too
        alike = [one for one in dict.fromkeys(experts) if one not in self.experts.words]
        lonely = [one for one in dict.fromkeys(experts) if one in self.experts.words]
        vectors: dict[str, NDArray[np.float32]] = {}
        for group in [alike, *([one] for one in lonely)]:
            if group:
                found = self._across(texts, experts=group, prompt=self.query_prompt)
                vectors |= dict(zip(group, found, strict=True))
        return np.stack([vectors[expert] for expert in experts])

    def _across(
        self,
        texts: Sequence[str],
        *,
        experts: Sequence[str],
        prompt: str,
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Unit vectors (experts, n, dim); experts that are several have no words of their own."""
        return embed_texts(
            self._engine.get(self._load_engine),
            self._tokens_of(experts[0]),
            texts,
            experts=experts,
            dim=self.dim,
            prompt=prompt,
            head=self._head,
            progress=progress,
        )

    def prepare(self, domain: str) -> None:
        """Begin to load what the domain's first text needs, beside other work; comes back at once."""
        self._engine.prepare(self.expert_of(domain), self._load_engine)

    def _load_engine(self) -> Engine:
        return load_engine(
            self.engine,
            self.source,
            experts=self.experts.places,
            pooling=self.pooling,
            precision=self.precision,
            device=self.device,
            trunk=self.experts.shared(),
            cache=self._options.cache,
        )

    # --- tokens -------------------------------------------------------------------------------------------

    @cached_property
    def _tokens(self) -> Tokens:
        return Tokens(self.source.tokenizer, max_length=self.max_length, lower_case=self.source.lower_case)

    def _tokens_of(self, expert: str) -> Tokens:
        """The tokenizer under an expert: with its own words, where it has any."""
        if (words := self.experts.words.get(expert)) is None:
            return self._tokens
        with self._loading:
            if expert not in self._extended:
                size = self.source.config["vocab_size"]
                self._extended[expert] = self._tokens.with_words(words, first=size)
            return self._extended[expert]

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without special tokens."""
        return self._tokens.count(text)

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        return self._tokens.count_many(texts)

    @cached_property
    def token_limit(self) -> int:
        """Tokens a chunk may have to be encoded in one piece."""
        prompt = self.count_tokens(self.document_prompt) if self.document_prompt else 0
        return self.max_length - self._tokens.special - prompt

    # --- identity -----------------------------------------------------------------------------------------

    @cached_property
    def device(self) -> str:
        """Where vectors are computed."""
        return pick_device(self._options.device)

    @cached_property
    def precision(self) -> Precision:
        """The number format that is used: fp32 or bf16."""
        return resolve_precision(self._options.precision, device=self.device)

    @cached_property
    def engine(self) -> EngineName:
        """What computes the vectors; it may be refused, as `choose_engine` says."""
        return choose_engine(
            self._options.engine,
            device=self.device,
            precision=self.precision,
            learned=self.source.roster.learned,
        )

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains that have an expert of their own."""
        return self.experts.domains

    def expert_of(self, domain: str) -> str:
        """sha256 of the domain's expert, or "general"."""
        return self.experts.name(domain)

    def fingerprint(self, domain: str) -> str:
        """Hash of what decides this domain's vectors; domains with equal ones share a space."""
        parts = FingerprintParts(
            trunk=self.experts.digests.trunk,
            expert=self.experts.feed_forward(domain),
            tokenizer=self._tokens.digest,
            query_prompt=self.query_prompt,
            document_prompt=self.document_prompt,
            pooling=self.source.pooled(self.pooling),
            max_length=self.max_length,
            dim=self.dim,
            routing=self.source.routing,
            lower_case=self.source.lower_case,
            token_row=self.experts.token_row(domain),
            vocabulary=self.experts.vocabulary(domain),
        )
        return domain_fingerprint(parts)

    def model_identity(self) -> dict[str, str]:
        """What a catalog needs to tell this model from another, and to find it again."""
        return {
            "name": self.name,
            "path": BUNDLED if self.name == BUNDLED_NAME else str(self.source.folder.resolve()),
            "family": self.source.family,
            "trunk": self.experts.digests.trunk,
            "general": self.experts.digests.expert(),
            "tokenizer": self._tokens.digest,
            "pooling": self.source.pooled(self.pooling),
            "max_length": str(self.max_length),
            "dim": str(self.dim),
            "query_prompt": self.query_prompt,
            "document_prompt": self.document_prompt,
        }
