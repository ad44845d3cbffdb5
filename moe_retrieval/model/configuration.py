"""What makes a BERT a domain-expert BERT: experts, the domains that use them, the layers that have them."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, BertConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

ROUTINGS = ("index",)


class MoEBertConfig(BertConfig):  # type: ignore[misc]
    """BERT's configuration, and four fields of ours.

    Args:
        experts: name of each expert, in the order of the weights; "general", the pretrained one, comes first.
        domains: domain -> name of its expert; a domain that is absent uses "general".
        moe_layers: layers whose feed-forward is per expert; None stands for all of them.
        routing: "index": the caller names the expert of each text or token.
    """

    model_type = "moe_bert"
    experts: list[str] | None = None
    domains: dict[str, str] | None = None
    moe_layers: list[int] | None = None
    routing: str = "index"

    def __post_init__(self, **kwargs: Any) -> None:
        everywhere = range(self.num_hidden_layers)
        self.experts = list(self.experts or ["general"])
        self.domains = dict(self.domains or {})
        self.moe_layers = sorted(everywhere if self.moe_layers is None else self.moe_layers)
        super().__post_init__(**kwargs)
        _check_experts(self.experts, self.domains)
        _check_layers(self.moe_layers, count=self.num_hidden_layers)
        if self.routing not in ROUTINGS:
            raise ValueError(f"routing {self.routing!r} is not one of {', '.join(ROUTINGS)}")
        if self.is_decoder or self.add_cross_attention:
            raise ValueError(
                "a decoder cannot be an encoder of texts: is_decoder and add_cross_attention must be false"
            )


def _check_experts(experts: list[str], domains: dict[str, str]) -> None:
    if experts[0] != "general":
        raise ValueError(f"the first expert must be 'general', not {experts[0]!r}")
    if len(set(experts)) < len(experts):
        raise ValueError(f"two experts have the same name: {', '.join(experts)}")
    if strangers := sorted(set(domains.values()) - set(experts)):
        raise ValueError(f"domains name experts that do not exist: {', '.join(strangers)}")


def _check_layers(layers: list[int], *, count: int) -> None:
    if len(set(layers)) < len(layers) or not set(layers) <= set(range(count)):
        raise ValueError(f"moe_layers must be different layers from 0 to {count - 1}, not {layers}")


# Files copied beside saved weights run this too; there, the installed package's registration stays.
if "moe_bert" not in CONFIG_MAPPING:
    AutoConfig.register("moe_bert", MoEBertConfig)
MoEBertConfig.register_for_auto_class()
