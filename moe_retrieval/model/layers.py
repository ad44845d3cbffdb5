"""What a layer with experts does in every family: choose the feed-forward, repeat the batch for a fan-out."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .experts import GENERAL_PLAN, Experts, FeedForward, Plan, PostNorm, make_experts
from .routing import Gate, route


class ExpertLayer:
    """Mixin of a family's layer: experts, and a gate if it is learned, where the configuration says."""

    experts: Experts | None
    gate: Gate | None

    def give_experts(self, kind: Any, config: Any, layer: int) -> bool:
        """Make this layer's experts of class `kind`; False where the layer stays dense."""
        here = layer in config.moe_layers
        self.experts = make_experts(kind, config) if here else None
        self.gate = Gate(config) if here and config.learned else None
        self.top_k: int = config.top_k
        self.is_first = here and layer == min(config.moe_layers)
        return here

    def routed(self, hidden: Tensor, plan: Plan) -> Tensor:
        """The feed-forward that `plan`, or this layer's gate, chooses; the same shape comes back."""
        experts: Any = self.experts
        if self.gate is not None:
            return route(experts, self.gate, hidden, plan, k=self.top_k)
        out: Tensor = experts(hidden, plan)
        return out

    def spread(self, hidden: Tensor, plan: Plan) -> Tensor:
        """Hidden (batch, tokens, width) repeated for each expert of a fan-out, in the first with any."""
        if plan.copies == 1 or not self.is_first:
            return hidden
        return hidden.repeat(plan.copies, 1, 1)


def like(part: Tensor | None, hidden: Tensor) -> Tensor | None:
    """A mask or bias, made for the batch before a fan-out, repeated to the rows of `hidden`."""
    if part is None or part.shape[0] in (1, hidden.shape[0]):
        return part
    return part.repeat(hidden.shape[0] // part.shape[0], *[1] * (part.dim() - 1))


class PostNormLayer(ExpertLayer):
    """Mixin of layers whose norm follows the feed-forward: BertLayer, RobertaLayer and the like."""

    def __init__(self, config: Any, layer_idx: int) -> None:
        super().__init__(config, layer_idx=layer_idx)  # type: ignore[call-arg]
        if self.give_experts(FeedForward, config, layer_idx):
            del self.intermediate  # type: ignore[attr-defined]
            self.output: Any = PostNorm(config)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, tokens, width)
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,  # these three are a decoder's, which is refused
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        *,
        expert_plan: Plan = GENERAL_PLAN,
        **kwargs: Any,
    ) -> Tensor:
        mask = like(attention_mask, hidden_states)
        attended, _ = self.attention(hidden_states, mask, **kwargs)  # type: ignore[attr-defined]
        return self.after_attention(attended, expert_plan)

    def after_attention(self, attended: Tensor, plan: Plan) -> Tensor:
        """Feed-forward, residual and norm: the dense ones, or those of the experts."""
        if self.experts is None:
            out: Tensor = self.feed_forward_chunk(attended)  # type: ignore[attr-defined]
            return out
        attended = self.spread(attended, plan)
        out = self.output(self.routed(attended, plan), attended)
        return out
