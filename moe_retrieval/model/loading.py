"""Weights files to a model in memory: the general expert first, others attached when they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import ModelError
from moe_retrieval.model.weights import canonical_name, feed_forward_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import torch

    from moe_retrieval.model.bert import MoEBertModel
    from moe_retrieval.model.source import ModelSource


def load_model(source: ModelSource, *, experts: Sequence[int], moe_layers: Sequence[int]) -> MoEBertModel:
    """The model with those of its folder's experts that are named by number, 0 (general) first.

    Layers of `moe_layers` that have no experts in the folder get general's feed-forward.

    Raises:
        ModelError: tensors are missing or have another shape than config.json says.
    """
    names = [source.experts[number] for number in experts]
    domains = {domain: expert for domain, expert in source.domains.items() if expert in names}
    state = read_state(source.weights)
    return build(
        source, state, experts=dict(zip(experts, names, strict=True)), domains=domains, moe_layers=moe_layers
    )


def build(
    source: ModelSource,
    state: Mapping[str, torch.Tensor],
    *,
    experts: Mapping[int, str],
    domains: Mapping[str, str],
    moe_layers: Sequence[int],
) -> MoEBertModel:
    """A model of this folder's configuration around tensors that are already in memory."""
    from moe_retrieval.model.bert import empty_model
    from moe_retrieval.model.configuration import MoEBertConfig

    try:
        config = MoEBertConfig(
            **source.config,
            experts=list(experts.values()),
            domains=dict(domains),
            moe_layers=list(moe_layers),
        )
        model = empty_model(config)
    except (ValueError, KeyError) as error:
        raise ModelError(
            f"{source.folder} describes an impossible model: {error}", hint="fetch the model again"
        ) from error
    config.name_or_path = source.name
    fill(model, routed_state(state, experts=list(experts), moe_layers=moe_layers), where=str(source.folder))
    model.eval()
    return model


def read_state(files: Iterable[Path]) -> dict[str, torch.Tensor]:
    """Tensors of safetensors files by canonical name."""
    import safetensors
    from safetensors.torch import load_file

    state: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            tensors = load_file(file)
        except (safetensors.SafetensorError, OSError) as error:
            raise ModelError(f"{file} cannot be read: {error}", hint="fetch the model again") from error
        for name, tensor in tensors.items():
            if (plain := canonical_name(name)) is not None:
                state[plain] = tensor
    return state


def read_expert(source: ModelSource, number: int) -> dict[str, torch.Tensor]:
    """Tensors of one of a model folder's experts, by dense names."""
    places = ((feed_forward_name(name), tensor) for name, tensor in read_state(source.weights).items())
    return {place.dense: tensor for place, tensor in places if place is not None and place.expert == number}


def routed_state(
    state: Mapping[str, torch.Tensor], *, experts: Sequence[int], moe_layers: Sequence[int]
) -> dict[str, torch.Tensor]:
    """`state` under the names of a model that has `experts`, in this order, in `moe_layers`.

    An expert without tensors in such a layer gets general's; tensors of other experts are left out.
    """
    routed: dict[str, torch.Tensor] = {}
    own: dict[str, dict[int, torch.Tensor]] = {}  # dense name -> expert -> tensor
    for name, tensor in state.items():
        place = feed_forward_name(name)
        if place is None or place.layer not in moe_layers:
            routed[place.dense if place else name] = tensor
        else:
            own.setdefault(place.dense, {})[place.expert] = tensor
    for dense, tensors in own.items():
        stem, part = dense[: -len(_part(dense))], _part(dense)
        for slot, expert in enumerate(experts):
            chosen = tensors.get(expert, tensors.get(0))
            if chosen is not None:
                routed[f"{stem}experts.{slot}.{part}"] = chosen
    return routed


def _part(dense: str) -> str:
    """`output.dense.bias` of `encoder.layer.3.output.dense.bias`."""
    return dense.split(".", 3)[3]


def fill(module: Any, state: Mapping[str, torch.Tensor], *, where: str) -> None:
    """Give a module its tensors, all of them and no others.

    Raises:
        ModelError: tensors are missing, left over, or of another shape.
    """
    try:
        module.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise ModelError(
            f"the weights of {where} do not fit its config.json: {' '.join(lines)}",
            hint="fetch the model again",
        ) from error


def attach(model: MoEBertModel, name: str, tensors: Mapping[str, torch.Tensor], *, where: str) -> int:
    """Add an expert from tensors with dense names; returns its number.

    In layers that the tensors do not cover, the new expert is general's own module, not a copy. Other threads
    may go on using the model: the experts it has stay where they are.

    Raises:
        ModelError: the tensors do not fit, or are for a layer that has no experts; the model is as before.
    """
    by_layer: dict[int, dict[str, torch.Tensor]] = {}
    for dense, tensor in tensors.items():
        if (place := feed_forward_name(dense)) is not None:
            by_layer.setdefault(place.layer, {})[place.part] = tensor
    routed = _routed(model)
    if outside := sorted(set(by_layer) - set(routed)):
        raise ModelError(
            f"{where} has an expert for layer {outside[0]}, where the model has none",
            hint=f"layers: {sorted(routed)}",
        )
    fresh = {number: _expert(model, parts, where=where) for number, parts in by_layer.items()}
    for number, experts in routed.items():
        experts.append(fresh.get(number, experts[0]))
    model.config.experts.append(name)
    return len(model.config.experts) - 1


def _routed(model: MoEBertModel) -> dict[int, Any]:
    """The experts of each layer that has them."""
    layers: list[Any] = list(model.encoder.layer)
    return {number: layer.experts for number, layer in enumerate(layers) if layer.experts is not None}


def _expert(model: MoEBertModel, parts: Mapping[str, torch.Tensor], *, where: str) -> torch.nn.Module:
    import torch

    from moe_retrieval.model.bert import BertExpert

    with torch.device("meta"):
        expert = BertExpert(model.config)
    fill(expert, parts, where=where)
    return expert.to(model.device, model.dtype).train(model.training)
