"""ModernBERT with an expert feed-forward per domain: attention, positions and norms stay as they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AutoModel
from transformers.activations import ACT2FN
from transformers.models.modernbert.modeling_modernbert import (
    ModernBertEmbeddings,
    ModernBertEncoderLayer,
    ModernBertModel,
    ModernBertRotaryEmbedding,
)

from .configuration import MoEModernBertConfig
from .experts import GENERAL_PLAN, Growth, Plan, linear
from .family import ExpertModel, make_rows
from .layers import ExpertLayer, like


class GatedFeedForward(nn.Module):
    """ModernBERT's gated linear unit; the names continue those of the dense model."""

    def __init__(self, config: Any, *, rank: int = 0, gated: bool = False) -> None:
        super().__init__()
        width, inner, bias = config.hidden_size, int(config.intermediate_size), config.mlp_bias
        self.Wi = linear(width, 2 * inner, rank=rank, bias=bias)
        self.Wo = linear(inner, width, rank=rank, bias=bias)
        self.growth = Growth(width, inner) if gated else None
        self.act = ACT2FN[config.hidden_activation]
        self.drop = nn.Dropout(config.mlp_dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        value, gate = self.Wi(hidden).chunk(2, dim=-1)
        inner = self.act(value) * gate
        if self.growth is not None:
            inner = inner * self.growth(hidden)
        out: Tensor = self.Wo(self.drop(inner))
        return out


class MoEModernBertLayer(ExpertLayer, ModernBertEncoderLayer):  # type: ignore[misc]
    """A ModernBERT layer; where the configuration says, `expert_plan` chooses the feed-forward."""

    def __init__(self, config: MoEModernBertConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        if self.give_experts(GatedFeedForward, config, layer_idx):
            del self.mlp

    def forward(
        self,
        hidden_states: Tensor,  # (batch, tokens, width)
        attention_mask: Tensor | None = None,
        position_embeddings: Any = None,
        *,
        expert_plan: Plan = GENERAL_PLAN,
        **kwargs: Any,
    ) -> Tensor:
        attended, _ = self.attn(
            self.attn_norm(hidden_states),
            position_embeddings=tuple(like(part, hidden_states) for part in position_embeddings),
            attention_mask=like(attention_mask, hidden_states),
            **kwargs,
        )
        hidden = hidden_states + attended
        if self.experts is None:
            out: Tensor = hidden + self.mlp(self.mlp_norm(hidden))
            return out
        hidden = self.spread(hidden, expert_plan)
        return hidden + self.routed(self.mlp_norm(hidden), expert_plan)


class MoEModernBertModel(ExpertModel, ModernBertModel):  # type: ignore[misc]
    """ModernBertModel whose `forward` takes `expert_ids`; without them it is the dense model it came from."""

    config_class = MoEModernBertConfig
    takes_token_types = False
    _no_split_modules = ["ModernBertEmbeddings", "MoEModernBertLayer"]  # noqa: RUF012 - transformers' own

    def __init__(self, config: MoEModernBertConfig) -> None:
        super(ModernBertModel, self).__init__(config)
        self.gradient_checkpointing = False
        self.embeddings = ModernBertEmbeddings(config)
        self.layers = nn.ModuleList(MoEModernBertLayer(config, i) for i in range(config.num_hidden_layers))
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)
        self.rotary_emb = ModernBertRotaryEmbedding(config=config)
        self.input_rows = make_rows(config)
        self.post_init()

    def restore_buffers(self) -> None:
        """Make the buffers that no weights file holds, after the model was built without memory."""
        self.rotary_emb = ModernBertRotaryEmbedding(config=self.config)


AutoModel.register(MoEModernBertConfig, MoEModernBertModel, exist_ok=True)
MoEModernBertModel.register_for_auto_class("AutoModel")
