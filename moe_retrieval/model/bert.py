"""BERT with an expert feed-forward per domain: attention, embeddings and norms stay shared and untouched."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.models.bert.modeling_bert import (
    BertEmbeddings,
    BertEncoder,
    BertIntermediate,
    BertLayer,
    BertModel,
    BertOutput,
    BertPooler,
)

from .configuration import MoEBertConfig
from .experts import GENERAL_PLAN, Experts, Plan, plan_experts


class BertExpert(nn.Module):
    """The two linears of a BERT layer's feed-forward; the names continue those of the dense model."""

    def __init__(self, config: MoEBertConfig) -> None:
        super().__init__()
        self.intermediate = BertIntermediate(config)
        self.output = nn.ModuleDict({"dense": nn.Linear(config.intermediate_size, config.hidden_size)})

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.output["dense"](self.intermediate(hidden))
        return out


class SharedOutput(BertOutput):  # type: ignore[misc]
    """What follows the second linear: dropout, residual and norm, one for all experts."""

    def __init__(self, config: MoEBertConfig) -> None:
        super().__init__(config)
        del self.dense

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dropout(hidden_states) + input_tensor)
        return out


class MoEBertLayer(BertLayer):  # type: ignore[misc]
    """A BERT layer; in the layers the configuration names, the feed-forward is chosen by `expert_plan`."""

    def __init__(self, config: MoEBertConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx=layer_idx)
        self.experts: Experts | None = None
        if layer_idx in (config.moe_layers or []):
            del self.intermediate
            self.output = SharedOutput(config)
            self.experts = Experts(BertExpert(config) for _ in config.experts or [])

    def forward(
        self,
        hidden_states: Tensor,  # (batch, tokens, width)
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor
        | None = None,  # only a decoder has these three; the configuration refuses it
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        *,
        expert_plan: Plan = GENERAL_PLAN,
        **kwargs: Any,
    ) -> Tensor:
        attended, _ = self.attention(hidden_states, attention_mask, **kwargs)
        if self.experts is None:
            out: Tensor = self.feed_forward_chunk(attended)
        else:
            out = self.output(self.experts(attended, expert_plan), attended)
        return out


class MoEBertEncoder(BertEncoder):  # type: ignore[misc]
    """BERT's stack of layers, made of ours."""

    def __init__(self, config: MoEBertConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.layer = nn.ModuleList(MoEBertLayer(config, layer_idx=i) for i in range(config.num_hidden_layers))


class MoEBertModel(BertModel):  # type: ignore[misc]
    """BertModel whose `forward` takes `expert_ids`; without them it is the dense model it came from."""

    config_class = MoEBertConfig
    _no_split_modules = ["BertEmbeddings", "MoEBertLayer"]  # noqa: RUF012 - transformers' own attribute

    def __init__(self, config: MoEBertConfig, add_pooling_layer: bool = False) -> None:
        super(BertModel, self).__init__(config)
        self.gradient_checkpointing = False
        self.embeddings = BertEmbeddings(config)
        self.encoder = MoEBertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,  # (batch, tokens)
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        expert_ids: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """BertModel's outputs, in the order of the inputs.

        Args:
            input_ids: tokens; this or `inputs_embeds`.
            attention_mask: 1 for tokens, 0 for padding; None: no padding.
            token_type_ids: as in BERT.
            position_ids: as in BERT.
            inputs_embeds: embedded tokens, (batch, tokens, width).
            expert_ids: expert of each text, (batch,), or token, (batch, tokens); None: general.
            return_dict: False gives a tuple.
            kwargs: passed on to BertModel.

        Raises:
            ValueError: `expert_ids` has another shape, or names an expert that the model does not have.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None:
            raise ValueError("give input_ids or inputs_embeds")
        plan = plan_experts(
            expert_ids,
            batch=(given.shape[0], given.shape[1]),
            experts=len(self.config.experts),
            device=given.device,
        )
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
            "inputs_embeds": inputs_embeds,
        }
        out = super().forward(**_sorted(inputs, plan), expert_plan=plan, return_dict=True, **kwargs)
        _unsort(out, plan)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return out if as_dict else out.to_tuple()


def _sorted(inputs: dict[str, Tensor | None], plan: Plan) -> dict[str, Tensor | None]:
    """Inputs with their texts sorted by expert, once for all layers."""
    if plan.order is None or plan.by_token:
        return inputs
    rows = plan.order.numel()
    # position_ids may be one row for all texts
    return {
        name: value[plan.order] if value is not None and value.shape[0] == rows else value
        for name, value in inputs.items()
    }


def _unsort(out: Any, plan: Plan) -> None:
    """Give every tensor of a model output, captured hidden states included, the callers' order back."""
    if plan.inverse is None or plan.by_token:
        return
    for name, value in list(out.items()):
        out[name] = (
            tuple(part[plan.inverse] for part in value) if isinstance(value, tuple) else value[plan.inverse]
        )


def empty_model(config: MoEBertConfig) -> MoEBertModel:
    """A model whose parameters have no memory yet: `load_state_dict(..., assign=True)` gives them theirs."""
    with torch.device("meta"):
        model = MoEBertModel(config)
    # buffers that no weights file holds
    model.embeddings.position_ids = torch.arange(config.max_position_embeddings).expand(1, -1)
    model.embeddings.token_type_ids = torch.zeros(1, config.max_position_embeddings, dtype=torch.long)
    return model


AutoModel.register(MoEBertConfig, MoEBertModel, exist_ok=True)
MoEBertModel.register_for_auto_class("AutoModel")
