"""Texts and a domain in, unit vectors out."""

from __future__ import annotations

import json
import threading
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.engines.averaging import TextVectors
from moe_retrieval.engines.batches import plan_batches
from moe_retrieval.engines.bundled import BUNDLED, BUNDLED_NAME, find_model
from moe_retrieval.engines.choice import choose_engine, load_engine
from moe_retrieval.engines.precision import pick_device, resolve_precision
from moe_retrieval.engines.tokens import Tokens
from moe_retrieval.errors import UsageError
from moe_retrieval.fingerprint import FingerprintParts, domain_fingerprint
from moe_retrieval.model.packs import check_fit, open_pack, pack_sha, select_expert
from moe_retrieval.model.source import check_pooling
from moe_retrieval.model.weights import join_digests, read_tensors
from moe_retrieval.types import GENERAL, EngineName, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from moe_retrieval.engines.engine import Engine
    from moe_retrieval.model.packs import Pack
    from moe_retrieval.model.source import ModelSource
    from moe_retrieval.model.weights import Digests

_SHORTEST, _LONGEST = 8, 8_192


class Encoder:
    """A model, its experts and its tokenizer. torch is loaded by the first text that is encoded, not before.

    Attributes:
        name: name of the model.
        dim: width of the vectors.
        max_length: tokens a model sees at once, special tokens included; longer texts are encoded in windows.
    """

    def __init__(
        self,
        source: ModelSource,
        *,
        packs: Mapping[str, Pack],
        precision: Precision = Precision.AUTO,
        engine: EngineName = EngineName.AUTO,
        cache: Path | None = None,
        device: str | None = None,
        max_length: int | None = None,
        query_prompt: str = "",
        document_prompt: str = "",
        pooling: str | None = None,
    ) -> None:
        self.source = source
        self.name = source.name
        self.dim = source.dim
        self.max_length = _length(max_length, source)
        self.query_prompt = query_prompt or source.prompts.get("query", "")
        self.document_prompt = document_prompt or source.prompts.get("document", "")
        self.pooling = check_pooling(pooling or source.pooling)
        self._packs = dict(packs)
        self._wanted = Precision(precision)
        self._wanted_engine = EngineName(engine)
        self._cache = cache
        self._device = device
        self._loading = threading.Lock()
        self._engine: Engine | None = None
        self._extended: dict[str, Tokens] = {}
        if self._packs and source.roster.learned:
            raise UsageError(
                f"{self.name} chooses its experts by a learned gate; experts of domains cannot be added",
                hint="give a model whose routing is index",
            )
        for pack in self._packs.values():
            check_fit(pack, self._digests, name=self.name)

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
        return cls(
            source,
            packs=packs,
            precision=precision,
            engine=engine,
            cache=cache,
            device=device,
            max_length=max_length,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            pooling=pooling,
        )

    # --- vectors ------------------------------------------------------------------------------------------

    def encode_query(self, texts: Sequence[str], *, domain: str = GENERAL) -> NDArray[np.float32]:
        """Unit vectors (n, dim) of queries, by the domain's expert.

        Raises:
            BadVectorError: the model gave a vector that is not finite, or zero.
        """
        return self._encode(texts, domain=domain, prompt=self.query_prompt, progress=None)

    def encode_document(
        self, texts: Sequence[str], *, domain: str = GENERAL, progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Unit vectors (n, dim) of documents, by the domain's expert; `progress` hears how many got ready.

        Raises:
            BadVectorError: the model gave a vector that is not finite, or zero.
        """
        return self._encode(texts, domain=domain, prompt=self.document_prompt, progress=progress)

    def encode_query_across(self, texts: Sequence[str], *, domains: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (domains, n, dim) of the same queries, by each domain's expert.

        Domains that share an expert are encoded once; the others go through the model in one batch, where
        the layers below the first one with experts run once.

        Raises:
            BadVectorError: the model gave a vector that is not finite, or zero.
        """
        experts = [self.expert_of(domain) for domain in domains]
        # words of its own make a domain's token ids its own, too
        alike = [one for one in dict.fromkeys(experts) if one not in self._words]
        lonely = [one for one in dict.fromkeys(experts) if one in self._words]
        vectors: dict[str, NDArray[np.float32]] = {}
        for group in [alike, *([one] for one in lonely)]:
            if group:
                found = self._across(texts, experts=group, prompt=self.query_prompt)
                vectors |= dict(zip(group, found, strict=True))
        return np.stack([vectors[expert] for expert in experts])

    def _encode(
        self, texts: Sequence[str], *, domain: str, prompt: str, progress: Callable[[int], None] | None
    ) -> NDArray[np.float32]:
        found = self._across(texts, experts=[self.expert_of(domain)], prompt=prompt, progress=progress)
        vectors: NDArray[np.float32] = found[0]
        return vectors

    def _across(
        self,
        texts: Sequence[str],
        *,
        experts: Sequence[str],
        prompt: str,
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Unit vectors (experts, n, dim); experts that are several have no words of their own."""
        tokens = self._tokens_of(experts[0])
        windows = tokens.windows(texts, prompt=prompt)
        flat = [window for own in windows for window in own]
        owners = np.repeat(np.arange(len(texts)), [len(own) for own in windows])
        outs = [TextVectors(owners, texts=len(texts), dim=self.dim) for _ in experts]
        engine = self._loaded()
        lengths = [len(window) for window in flat]
        for batch in plan_batches(lengths, budget=engine.budget):
            found = engine.embed([flat[place] for place in batch], experts=experts)
            # an empty text has special tokens only, and still counts
            weights = [max(1, lengths[place] - tokens.special) for place in batch]
            done = [out.add(batch, part, weights=weights) for out, part in zip(outs, found, strict=True)]
            if progress is not None:
                progress(done[0])
        return np.stack([out.finished() for out in outs])

    def _loaded(self) -> Engine:
        with self._loading:
            if self._engine is None:
                self._engine = self._load_engine()
            return self._engine

    def _load_engine(self) -> Engine:
        inside = {self.expert_of(domain): number for domain, number in self._inside.items()}
        packed = {pack.sha: pack for pack in self._packs.values()}
        return load_engine(
            self.engine,
            self.source,
            experts={**inside, **packed},
            pooling=self.pooling,
            precision=self.precision,
            device=self.device,
            trunk=self._shared(),
            cache=self._cache,
        )

    def _shared(self) -> str:
        """Digest of what an expert's graph holds besides the expert."""
        digests = self._digests
        config = json.dumps(dict(self.source.config), sort_keys=True)
        return join_digests([digests.trunk, digests.expert(), *sorted(digests.rows_of(0).values()), config])

    # --- tokens -------------------------------------------------------------------------------------------

    @cached_property
    def _tokens(self) -> Tokens:
        return Tokens(self.source.tokenizer, max_length=self.max_length, lower_case=self.source.lower_case)

    def _tokens_of(self, expert: str) -> Tokens:
        """The tokenizer under an expert: with its own words, where it has any."""
        with self._loading:
            if expert in self._words and expert not in self._extended:
                self._extended[expert] = self._tokens.with_words(
                    self._words[expert], first=self.source.config["vocab_size"]
                )
        return self._extended.get(expert, self._tokens)

    @cached_property
    def _words(self) -> dict[str, Sequence[str]]:
        """Words that are one token for an expert alone."""
        inside = {
            self.expert_of(domain): self.source.roster.vocabulary.get(self.source.experts[number], ())
            for domain, number in self._inside.items()
        }
        packed = {pack.sha: pack.words for pack in self._packs.values()}
        return {expert: words for expert, words in {**inside, **packed}.items() if words}

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
        return pick_device(self._device)

    @cached_property
    def precision(self) -> Precision:
        """The number format that is used: fp32 or bf16."""
        return resolve_precision(self._wanted, device=self.device)

    @cached_property
    def engine(self) -> EngineName:
        """What computes the vectors.

        Raises:
            MissingExtraError: the engine that was asked for is not installed.
            UsageError: it cannot run this model, on this device, or in this number format.
        """
        return choose_engine(
            self._wanted_engine,
            device=self.device,
            precision=self.precision,
            learned=self.source.roster.learned,
        )

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """Domains that have an expert of their own."""
        return tuple(sorted({*self._packs, *self._inside}))

    def expert_of(self, domain: str) -> str:
        """sha256 of the domain's expert, or "general"."""
        if domain in self._packs:
            return self._packs[domain].sha
        number = self._inside.get(domain)
        return GENERAL if number is None else self._inside_shas[number]

    def fingerprint(self, domain: str) -> str:
        """Hash of what decides this domain's vectors; domains with equal ones share a space."""
        layers, rows = self._own(domain)
        learned = self.source.roster.learned
        parts = FingerprintParts(
            trunk=self._digests.trunk,
            expert=self._digests.all_experts() if learned else self._digests.expert(layers),
            tokenizer=self._tokens.digest,
            query_prompt=self.query_prompt,
            document_prompt=self.document_prompt,
            pooling=self.pooling,
            max_length=self.max_length,
            dim=self.dim,
            routing=self.source.routing,
            lower_case=self.source.lower_case,
            token_row=self._digests.row("token", rows),
            vocabulary=self._vocabulary(domain, rows),
        )
        return domain_fingerprint(parts)

    def model_identity(self) -> dict[str, str]:
        """What a catalog needs to tell this model from another, and to find it again."""
        return {
            "name": self.name,
            "path": BUNDLED if self.name == BUNDLED_NAME else str(self.source.folder.resolve()),
            "family": self.source.family,
            "trunk": self._digests.trunk,
            "general": self._digests.expert(),
            "tokenizer": self._tokens.digest,
            "pooling": self.pooling,
            "max_length": str(self.max_length),
            "dim": str(self.dim),
            "query_prompt": self.query_prompt,
            "document_prompt": self.document_prompt,
        }

    @cached_property
    def _digests(self) -> Digests:
        return self.source.digests()

    @cached_property
    def _inside(self) -> dict[str, int]:
        """Domain -> number of its expert, for experts that are part of the model folder and not of a pack."""
        numbers = {
            domain: self.source.experts.index(expert) for domain, expert in self.source.domains.items()
        }
        if self.source.roster.learned:
            return {}  # a gate mixes them: no domain has an expert of its own
        return {domain: number for domain, number in numbers.items() if number and domain not in self._packs}

    @cached_property
    def _inside_shas(self) -> dict[int, str]:
        tensors = read_tensors(self.source.weights)
        said = self.source.roster.vocabulary
        return {
            number: pack_sha(select_expert(tensors, number), words=said.get(self.source.experts[number], ()))
            for number in set(self._inside.values())
        }

    def _own(self, domain: str) -> tuple[Mapping[int, str], Mapping[str, str]]:
        """Digests of what is the domain's own: feed-forwards by layer, embeddings by part."""
        if domain in self._packs:
            return self._pack_digests[self._packs[domain].sha]
        number = self._inside.get(domain, 0)
        return self._digests.feed_forward[number], self._digests.rows_of(number)

    def _vocabulary(self, domain: str, rows: Mapping[str, str]) -> str:
        """Digest of the words that are one token for this domain alone, and of their embeddings."""
        words = self._words.get(self.expert_of(domain), ())
        return join_digests([*words, self._digests.row("words", rows)]) if words else ""

    @cached_property
    def _pack_digests(self) -> dict[str, tuple[Mapping[int, str], Mapping[str, str]]]:
        return {pack.sha: pack.digests(self._digests) for pack in self._packs.values()}


def _length(wanted: int | None, source: ModelSource) -> int:
    """The window length: what was asked for, within what the model's positions allow."""
    if not wanted:
        return source.max_length
    most = min(_LONGEST, source.positions)
    if not _SHORTEST <= wanted <= most:
        raise UsageError(
            f"max_length is {wanted}", hint=f"{source.name} takes from {_SHORTEST} to {most} tokens"
        )
    return wanted
