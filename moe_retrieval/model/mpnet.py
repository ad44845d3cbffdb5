"""MPNet with an expert feed-forward per domain; and gradient checkpointing, which the library's lacks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.mpnet.modeling_mpnet import (
    MPNetEmbeddings,
    MPNetEncoder,
    MPNetLayer,
    MPNetModel,
    MPNetPooler,
)

from .configuration import MoEMPNetConfig
from .experts import GENERAL_PLAN, FeedForward, Plan, PostNorm
from .family import ExpertModel, make_rows
from .layers import ExpertLayer, like


class MoEMPNetLayer(ExpertLayer, GradientCheckpointingLayer, MPNetLayer):  # type: ignore[misc]
    """An MPNet layer; in the layers the configuration names, the feed-forward is chosen by `expert_plan`."""

    def __init__(self, config: MoEMPNetConfig, layer_idx: int) -> None:
        super().__init__(config)
        if self.give_experts(FeedForward, config, layer_idx):
            del self.intermediate
            self.output = PostNorm(config)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, tokens, width)
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        output_attentions: bool = False,
        *,
        expert_plan: Plan = GENERAL_PLAN,
        **kwargs: Any,
    ) -> tuple[Tensor, ...]:
        mask, bias = like(attention_mask, hidden_states), like(position_bias, hidden_states)
        attended, *weights = self.attention(
            hidden_states, mask, position_bias=bias, output_attentions=output_attentions
        )
        if self.experts is None:
            return (self.output(self.intermediate(attended), attended), *weights)
        attended = self.spread(attended, expert_plan)
        return (self.output(self.routed(attended, expert_plan), attended), *weights)


class MoEMPNetEncoder(MPNetEncoder):  # type: ignore[misc]
    """MPNet's stack of layers, made of ours."""

    def __init__(self, config: MoEMPNetConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.n_heads = config.num_attention_heads
        self.layer = nn.ModuleList(
            MoEMPNetLayer(config, layer_idx=i) for i in range(config.num_hidden_layers)
        )
        self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, self.n_heads)


class PlannedMPNet(MPNetModel):  # type: ignore[misc]
    """MPNetModel's forward with room for a plan: the library's hands nothing further on to its layers."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        expert_plan: Plan = GENERAL_PLAN,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        config = self.config
        embedded = self.embeddings(
            input_ids=input_ids, position_ids=position_ids, inputs_embeds=inputs_embeds
        )
        mask = create_bidirectional_mask(config=config, inputs_embeds=embedded, attention_mask=attention_mask)
        out = self.encoder(
            embedded,
            attention_mask=mask,
            output_attentions=config.output_attentions if output_attentions is None else output_attentions,
            output_hidden_states=config.output_hidden_states
            if output_hidden_states is None
            else output_hidden_states,
            return_dict=True,
            expert_plan=expert_plan,
        )
        last = out.last_hidden_state
        return BaseModelOutputWithPooling(
            last_hidden_state=last,
            pooler_output=None if self.pooler is None else self.pooler(last),
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )


class MoEMPNetModel(ExpertModel, PlannedMPNet):  # type: ignore[misc]
    """MPNetModel whose `forward` takes `expert_ids`; without them it is the dense model it came from."""

    config_class = MoEMPNetConfig
    supports_gradient_checkpointing = True
    takes_token_types = False
    _no_split_modules = ["MPNetEmbeddings", "MoEMPNetLayer"]  # noqa: RUF012 - transformers' own attribute

    def __init__(self, config: MoEMPNetConfig, add_pooling_layer: bool = False) -> None:
        super(MPNetModel, self).__init__(config)
        self.gradient_checkpointing = False
        self.embeddings = MPNetEmbeddings(config)
        self.encoder = MoEMPNetEncoder(config)
        self.pooler = MPNetPooler(config) if add_pooling_layer else None
        self.input_rows = make_rows(config)
        self.post_init()

    def positions_of(self, ids: Tensor) -> Tensor | None:
        mask = ids.ne(self.config.pad_token_id).long()
        positions: Tensor = torch.cumsum(mask, dim=1) * mask + self.config.pad_token_id
        return positions

    def restore_buffers(self) -> None:
        """Make the buffers that no weights file holds, after the model was built without memory."""
        self.embeddings.position_ids = torch.arange(self.config.max_position_embeddings).expand(1, -1)


AutoModel.register(MoEMPNetConfig, MoEMPNetModel, exist_ok=True)
MoEMPNetModel.register_for_auto_class("AutoModel")
