"""BERT with an expert feed-forward per domain: attention, embeddings and norms stay shared and untouched."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoModel
from transformers.models.bert.modeling_bert import (
    BertEmbeddings,
    BertEncoder,
    BertLayer,
    BertModel,
    BertPooler,
)

from .configuration import MoEBertConfig
from .family import ExpertModel, make_rows
from .layers import PostNormLayer


class MoEBertLayer(PostNormLayer, BertLayer):  # type: ignore[misc]
    """A Bert layer; in the layers the configuration names, the feed-forward is chosen by `expert_plan`."""


class MoEBertEncoder(BertEncoder):  # type: ignore[misc]
    """Bert's stack of layers, made of ours."""

    def __init__(self, config: MoEBertConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.layer = nn.ModuleList(MoEBertLayer(config, layer_idx=i) for i in range(config.num_hidden_layers))


class MoEBertModel(ExpertModel, BertModel):  # type: ignore[misc]
    """BertModel whose `forward` takes `expert_ids`; without them it is the dense model it came from."""

    config_class = MoEBertConfig
    _no_split_modules = ["BertEmbeddings", "MoEBertLayer"]  # noqa: RUF012 - transformers' own attribute

    def __init__(self, config: MoEBertConfig, add_pooling_layer: bool = False) -> None:
        super(BertModel, self).__init__(config)
        self.gradient_checkpointing = False
        self.embeddings = BertEmbeddings(config)
        self.encoder = MoEBertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None
        self.input_rows = make_rows(config)
        self.post_init()

    def restore_buffers(self) -> None:
        """Make the buffers that no weights file holds, after the model was built without memory."""
        positions = self.config.max_position_embeddings
        self.embeddings.position_ids = torch.arange(positions).expand(1, -1)
        self.embeddings.token_type_ids = torch.zeros(1, positions, dtype=torch.long)


AutoModel.register(MoEBertConfig, MoEBertModel, exist_ok=True)
MoEBertModel.register_for_auto_class("AutoModel")
