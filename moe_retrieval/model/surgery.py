"""Make a model with experts out of a dense one, and add, drop, assign, export, import its experts."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import ModelError, UsageError, did_you_mean
from moe_retrieval.model import packs
from moe_retrieval.model.weights import RawTensor, canonical_name, digests_of
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from transformers import BertModel

    from moe_retrieval.model.bert import MoEBertModel
    from moe_retrieval.model.weights import Digests

_BESIDE_WEIGHTS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
)


def upcycle(dense: BertModel | Path | str, *, moe_layers: Sequence[int] | None = None) -> MoEBertModel:
    """A model with one expert, `general`, that computes exactly what `dense` does; no memory is shared.

    Args:
        dense: a model in memory, or a model folder.
        moe_layers: layers that get experts; None: all.

    Raises:
        ModelError: the folder cannot be used.
    """
    if isinstance(dense, Path | str):
        return _upcycle_folder(Path(dense), moe_layers=moe_layers)
    from moe_retrieval.model.bert import MoEBertModel
    from moe_retrieval.model.configuration import MoEBertConfig
    from moe_retrieval.model.loading import fill, routed_state

    said = {
        name: value
        for name, value in dense.config.to_dict().items()
        if name not in ("model_type", "architectures")
    }
    config = MoEBertConfig(**said, moe_layers=None if moe_layers is None else list(moe_layers))
    model = MoEBertModel(config)
    named = ((canonical_name(name), tensor) for name, tensor in dense.state_dict().items())
    state = {name: tensor.detach().clone() for name, tensor in named if name is not None}
    fill(model, routed_state(state, experts=[0], moe_layers=config.moe_layers or []), where="the dense model")
    model.train(dense.training)
    return model


def _upcycle_folder(folder: Path, *, moe_layers: Sequence[int] | None) -> MoEBertModel:
    from moe_retrieval.model.loading import load_model
    from moe_retrieval.model.source import open_source

    source = open_source(folder)
    layers = range(source.layers) if moe_layers is None else moe_layers
    return load_model(source, experts=[0], moe_layers=list(layers))


def load(folder: Path | str) -> MoEBertModel:
    """A saved model with all its experts, ready to be changed or trained."""
    from moe_retrieval.model.loading import load_model
    from moe_retrieval.model.source import open_source

    source = open_source(Path(folder))
    return load_model(source, experts=range(len(source.experts)), moe_layers=source.moe_layers)


def save(model: MoEBertModel, folder: Path | str, *, like: Path | str) -> Path:
    """Save a model, and beside it the tokenizer and pooling of the folder `like` it was made from."""
    target, origin = Path(folder), Path(like)
    model.save_pretrained(target)
    for name in _BESIDE_WEIGHTS:
        if (origin / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin / name, target / name)
    return target


def expert_number(model: MoEBertModel, name: str) -> int:
    """Position of an expert in every layer.

    Raises:
        UsageError: the model has no such expert.
    """
    names: list[str] = model.config.experts
    if name not in names:
        raise UsageError(f"the model has no expert {name!r}", hint=did_you_mean(name, names))
    return names.index(name)


def add_expert(model: MoEBertModel, name: str, *, source: str = GENERAL) -> None:
    """Add an expert that starts as a copy of `source`, in every layer that has experts.

    Raises:
        UsageError: there is an expert of this name already, or none named `source`.
    """
    _check_new(model, name)
    number = expert_number(model, source)
    for experts in _expert_layers(model):
        experts.append(copy.deepcopy(experts[number]))
    model.config.experts.append(name)


def drop_expert(model: MoEBertModel, name: str) -> None:
    """Remove an expert; its domains fall back to `general`."""
    if name == GENERAL:
        raise UsageError("the general expert cannot be dropped", hint="other domains fall back to it")
    number = expert_number(model, name)
    for experts in _expert_layers(model):
        del experts[number]
    model.config.experts.remove(name)
    model.config.domains = {
        domain: expert for domain, expert in model.config.domains.items() if expert != name
    }


def assign(model: MoEBertModel, domain: str, expert: str) -> None:
    """Let a domain use an expert; `general` takes it back to the pretrained one."""
    expert_number(model, expert)
    model.config.domains.pop(domain, None)
    if expert != GENERAL:
        model.config.domains[domain] = expert


def number_of_domain(model: MoEBertModel, domain: str) -> int:
    """What `expert_ids` must hold for a text of this domain."""
    return expert_number(model, model.config.domains.get(domain, GENERAL))


def export_expert(
    model: MoEBertModel, name: str, folder: Path | str, *, card: Mapping[str, Any] | None = None
) -> str:
    """Write `<folder>/<sha>/expert.safetensors` and `card.json`, with `card` as notes; returns the sha256."""
    number = expert_number(model, name)
    tensors = raw_tensors(model)
    layers = tuple(model.config.moe_layers)
    base = str(model.config.name_or_path) or "an unnamed model"
    said = packs.Card(name, base, digests_of(tensors).without(layers), layers, dict(card or {}))
    chosen = packs.select_expert(tensors, number)
    moved = {name: tensor for name, tensor in chosen.items() if _layer_of(name) in layers}
    return packs.write_pack(moved, Path(folder), card=said)


def _layer_of(dense_name: str) -> int:
    return int(dense_name.split(".")[2])


def import_expert(model: MoEBertModel, folder: Path | str, *, name: str) -> None:
    """Add the expert of a pack `<folder>/<sha>` under a name.

    Raises:
        ChecksumError: the weights are not those the folder's name promises.
        ModelMismatchError: the expert was trained on another trunk.
        ModelError: the pack is damaged or has other shapes.
    """
    from moe_retrieval.model.loading import attach, read_state

    _check_new(model, name)
    pack = packs.open_pack(Path(folder))
    packs.check_fit(pack, digests(model), name=str(model.config.name_or_path) or "an unnamed model")
    general = (
        layer.experts[0].state_dict(prefix=f"encoder.layer.{number}.") for number, layer in _routed(model)
    )
    covered = {key: tensor for state in general for key, tensor in state.items()} | read_state([pack.weights])
    # layers that the pack leaves to general get a copy, not its module: training must not tie them
    tensors = {key: tensor.clone() for key, tensor in covered.items()}
    attach(model, name, tensors, where=str(pack.folder))


def digests(model: MoEBertModel) -> Digests:
    """Digests of a model in memory; the same as those of the files it would be saved to."""
    return digests_of(raw_tensors(model))


def raw_tensors(model: MoEBertModel) -> dict[str, RawTensor]:
    """The encoder's tensors by canonical name."""
    named = ((canonical_name(name), tensor) for name, tensor in model.state_dict().items())
    return {name: _raw(tensor) for name, tensor in named if name is not None}


def _raw(tensor: torch.Tensor) -> RawTensor:
    import torch

    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    if tensor.dtype not in names:
        raise ModelError(
            f"weights of type {tensor.dtype} cannot be saved", hint="use float32, bfloat16 or float16"
        )
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return RawTensor(names[tensor.dtype], tuple(tensor.shape), flat.numpy().data)


def _check_new(model: MoEBertModel, name: str) -> None:
    if not name or name in model.config.experts:
        raise UsageError(f"there is an expert {name!r} already", hint="drop it first, or choose another name")


def _expert_layers(model: MoEBertModel) -> list[Any]:
    return [layer.experts for _, layer in _routed(model)]


def _routed(model: MoEBertModel) -> list[tuple[int, Any]]:
    """Number and module of each layer that has experts."""
    return [(number, layer) for number, layer in enumerate(model.encoder.layer) if layer.experts is not None]
