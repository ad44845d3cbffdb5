"""What makes an encoder a domain-expert encoder: experts, the domains that use them, layers, routing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import (
    AutoConfig,
    BertConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
    XLMRobertaConfig,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

ENFORCED = ("index", "domain_token", "token_types")
LEARNED = ("sentence", "token")
ROUTINGS = (*ENFORCED, *LEARNED)


@dataclass(kw_only=True)
class ExpertFields:
    """Our fields, beside those of the family's own configuration.

    Args:
        experts: name of each expert, in the order of the weights; the first, where it is all of them that are
            saved, is "general", the pretrained one.
        domains: domain -> name of its expert; a domain that is absent uses "general".
        moe_layers: layers whose feed-forward is per expert; None stands for all of them.
        routing: "index": the caller names the expert of each text or token; "domain_token": of each text, and
            the first token becomes the expert's own; "token_types": token types are experts; "sentence",
            "token": a learned gate chooses for each text or token.
        top_k: experts that a learned gate joins; 1 is a switch.
        gated: experts whose feed-forward has grown a multiplicative branch.
        low_rank: expert -> rank of the delta that it adds to weights of its own.
        domain_tokens: experts whose texts begin with a token of their own; with routing "domain_token", all.
        vocabulary: expert -> words that are one token for it alone.
    """

    experts: list[str] | None = None
    domains: dict[str, str] | None = None
    moe_layers: list[int] | None = None
    routing: str = "index"
    top_k: int = 1
    gated: list[str] | None = None
    low_rank: dict[str, int] | None = None
    domain_tokens: list[str] | None = None
    vocabulary: dict[str, list[str]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        count: int = self.num_hidden_layers  # type: ignore[attr-defined]
        self.experts = list(self.experts or ["general"])
        self.domains = dict(self.domains or {})
        self.moe_layers = sorted(range(count) if self.moe_layers is None else self.moe_layers)
        self.gated, self.low_rank = list(self.gated or []), dict(self.low_rank or {})
        every = self.experts if self.routing == "domain_token" else []
        self.domain_tokens = list(self.domain_tokens or every)
        self.vocabulary = {name: list(words) for name, words in (self.vocabulary or {}).items()}
        super().__post_init__(**kwargs)  # type: ignore[misc]
        _check_experts(self.experts, {*self.domains.values(), *self.gated, *self.low_rank})
        _check_experts(self.experts, {*self.domain_tokens, *self.vocabulary})
        _check_ranks(self.low_rank)
        _check_layers(self.moe_layers, count=count)
        _check_routing(self.routing, top_k=self.top_k, experts=len(self.experts))
        if self.learned and self.has_rows:
            raise ValueError("a learned gate mixes experts: it cannot have tokens of one expert")
        if getattr(self, "is_decoder", False) or getattr(self, "add_cross_attention", False):
            raise ValueError(
                "a decoder cannot be an encoder of texts: is_decoder and add_cross_attention must be false"
            )

    @property
    def learned(self) -> bool:
        """Whether a gate chooses the experts."""
        return self.routing in LEARNED

    @property
    def has_rows(self) -> bool:
        """Whether experts have embeddings of their own: a domain token, or words."""
        return bool(self.domain_tokens or self.vocabulary)


def _check_experts(experts: list[str], used: set[str]) -> None:
    if len(set(experts)) < len(experts):
        raise ValueError(f"two experts have the same name: {', '.join(experts)}")
    if strangers := sorted(used - set(experts)):
        raise ValueError(f"experts are named that do not exist: {', '.join(strangers)}")


def _check_ranks(ranks: dict[str, int]) -> None:
    if bad := {name: rank for name, rank in ranks.items() if rank < 1}:
        raise ValueError(f"the rank of a low-rank expert must be above 0: {bad}")


def _check_layers(layers: list[int], *, count: int) -> None:
    if len(set(layers)) < len(layers) or not set(layers) <= set(range(count)):
        raise ValueError(f"moe_layers must be different layers from 0 to {count - 1}, not {layers}")


def _check_routing(routing: str, *, top_k: int, experts: int) -> None:
    if routing not in ROUTINGS:
        raise ValueError(f"routing {routing!r} is not one of {', '.join(ROUTINGS)}")
    if top_k < 1 or (top_k > 1 and top_k > experts):
        raise ValueError(f"top_k is {top_k}; there are {experts} experts")


def choose_layers(said: str, *, count: int) -> list[int]:
    """Layers named in words: "all", "single" (the middle one), "every:2" (each second), or "0,3,5".

    Raises:
        ValueError: the words mean no layers of a model with `count` of them.
    """
    word, _, step = said.strip().partition(":")
    if word == "all":
        return list(range(count))
    if word == "single" and not step:
        return [count // 2]
    if word == "every" and step.isdecimal() and 1 <= int(step) <= count:
        return list(range(int(step) - 1, count, int(step)))
    parts = [part.strip() for part in said.split(",")]
    if all(part.isdecimal() for part in parts):
        layers = sorted({int(part) for part in parts})
        _check_layers(layers, count=count)
        return layers
    raise ValueError(f"layers {said!r} is not one of: all, single, every:N, or numbers like 0,3,5")


class MoEBertConfig(ExpertFields, BertConfig):  # type: ignore[misc]
    """BERT with experts: SciBERT, BioBERT, PubMedBERT, MiniLM, E5."""

    model_type = "moe_bert"


class MoERobertaConfig(ExpertFields, RobertaConfig):  # type: ignore[misc]
    """RoBERTa with experts."""

    model_type = "moe_roberta"


class MoEXLMRobertaConfig(ExpertFields, XLMRobertaConfig):  # type: ignore[misc]
    """XLM-RoBERTa with experts."""

    model_type = "moe_xlm_roberta"


class MoEMPNetConfig(ExpertFields, MPNetConfig):  # type: ignore[misc]
    """MPNet with experts."""

    model_type = "moe_mpnet"


class MoEModernBertConfig(ExpertFields, ModernBertConfig):  # type: ignore[misc]
    """ModernBERT with experts."""

    model_type = "moe_modernbert"


CONFIGS: dict[str, Any] = {
    "bert": MoEBertConfig,
    "roberta": MoERobertaConfig,
    "xlm-roberta": MoEXLMRobertaConfig,
    "mpnet": MoEMPNetConfig,
    "modernbert": MoEModernBertConfig,
}
"""Family -> its configuration with experts."""

for _config in CONFIGS.values():
    # Files copied beside saved weights run this too; there, the installed package's registration stays.
    if _config.model_type not in CONFIG_MAPPING:
        AutoConfig.register(_config.model_type, _config)
    _config.register_for_auto_class()
