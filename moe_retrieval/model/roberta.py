"""RoBERTa and XLM-RoBERTa with an expert feed-forward per domain."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.models.roberta.modeling_roberta import (
    RobertaEmbeddings,
    RobertaEncoder,
    RobertaLayer,
    RobertaModel,
    RobertaPooler,
)
from transformers.models.xlm_roberta.modeling_xlm_roberta import (
    XLMRobertaEmbeddings,
    XLMRobertaEncoder,
    XLMRobertaLayer,
    XLMRobertaModel,
    XLMRobertaPooler,
)

from .configuration import MoERobertaConfig, MoEXLMRobertaConfig
from .family import ExpertModel, make_rows
from .layers import PostNormLayer


class MoERobertaLayer(PostNormLayer, RobertaLayer):  # type: ignore[misc]
    """A Roberta layer; in the layers the configuration names, the feed-forward is chosen by `expert_plan`."""


class MoERobertaEncoder(RobertaEncoder):  # type: ignore[misc]
    """Roberta's stack of layers, made of ours."""

    def __init__(self, config: MoERobertaConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.layer = nn.ModuleList(
            MoERobertaLayer(config, layer_idx=i) for i in range(config.num_hidden_layers)
        )


class MoERobertaModel(ExpertModel, RobertaModel):  # type: ignore[misc]
    """RobertaModel whose `forward` takes `expert_ids`; without them it is the dense model it came from."""

    config_class = MoERobertaConfig
    _no_split_modules = ["RobertaEmbeddings", "MoERobertaLayer"]  # noqa: RUF012 - transformers' own attribute

    def __init__(self, config: MoERobertaConfig, add_pooling_layer: bool = False) -> None:
        super(RobertaModel, self).__init__(config)
        self.gradient_checkpointing = False
        self.embeddings = RobertaEmbeddings(config)
        self.encoder = MoERobertaEncoder(config)
        self.pooler = RobertaPooler(config) if add_pooling_layer else None
        self.input_rows = make_rows(config)
        self.post_init()

    def restore_buffers(self) -> None:
        """Make the buffers that no weights file holds, after the model was built without memory."""
        positions = self.config.max_position_embeddings
        self.embeddings.position_ids = torch.arange(positions).expand(1, -1)
        self.embeddings.token_type_ids = torch.zeros(1, positions, dtype=torch.long)

    def positions_of(self, ids: Tensor) -> Tensor | None:
        positions: Tensor = self.embeddings.create_position_ids_from_input_ids(ids, self.config.pad_token_id)
        return positions


class MoEXLMRobertaLayer(PostNormLayer, XLMRobertaLayer):  # type: ignore[misc]
    """An XLM-RoBERTa layer; where the configuration says, `expert_plan` chooses the feed-forward."""


class MoEXLMRobertaEncoder(XLMRobertaEncoder):  # type: ignore[misc]
    """XLMRoberta's stack of layers, made of ours."""

    def __init__(self, config: MoEXLMRobertaConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.layer = nn.ModuleList(
            MoEXLMRobertaLayer(config, layer_idx=i) for i in range(config.num_hidden_layers)
        )


class MoEXLMRobertaModel(ExpertModel, XLMRobertaModel):  # type: ignore[misc]
    """XLMRobertaModel whose `forward` takes `expert_ids`; without them it is the dense model it came from."""

    config_class = MoEXLMRobertaConfig
    _no_split_modules = ["XLMRobertaEmbeddings", "MoEXLMRobertaLayer"]  # noqa: RUF012 - transformers' own attribute

    def __init__(self, config: MoEXLMRobertaConfig, add_pooling_layer: bool = False) -> None:
        super(XLMRobertaModel, self).__init__(config)
        self.gradient_checkpointing = False
        self.embeddings = XLMRobertaEmbeddings(config)
        self.encoder = MoEXLMRobertaEncoder(config)
        self.pooler = XLMRobertaPooler(config) if add_pooling_layer else None
        self.input_rows = make_rows(config)
        self.post_init()

    def restore_buffers(self) -> None:
        """Make the buffers that no weights file holds, after the model was built without memory."""
        positions = self.config.max_position_embeddings
        self.embeddings.position_ids = torch.arange(positions).expand(1, -1)
        self.embeddings.token_type_ids = torch.zeros(1, positions, dtype=torch.long)

    def positions_of(self, ids: Tensor) -> Tensor | None:
        positions: Tensor = self.embeddings.create_position_ids_from_input_ids(ids, self.config.pad_token_id)
        return positions


AutoModel.register(MoERobertaConfig, MoERobertaModel, exist_ok=True)
MoERobertaModel.register_for_auto_class("AutoModel")
AutoModel.register(MoEXLMRobertaConfig, MoEXLMRobertaModel, exist_ok=True)
MoEXLMRobertaModel.register_for_auto_class("AutoModel")
