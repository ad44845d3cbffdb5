"""Weights files to a model in memory: the experts that are needed, each under the number it gets there."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import ModelError
from moe_retrieval.model.packs import Pack
from moe_retrieval.model.weights import canonical_name, feed_forward_name, row_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import torch

    from moe_retrieval.model.source import ModelSource

MODELS = {
    "bert": ("bert", "MoEBertModel"),
    "roberta": ("roberta", "MoERobertaModel"),
    "xlm-roberta": ("roberta", "MoEXLMRobertaModel"),
    "mpnet": ("mpnet", "MoEMPNetModel"),
    "modernbert": ("modernbert", "MoEModernBertModel"),
}
"""Family -> module and class of its model with experts."""

State = dict[str, "torch.Tensor"]


def model_class(family: str) -> Any:
    """The class of a family's model with experts."""
    module, name = MODELS[family]
    return getattr(import_module(f"moe_retrieval.model.{module}"), name)


def load_model(source: ModelSource, *, experts: Sequence[int], moe_layers: Sequence[int]) -> Any:
    """The model with those of its folder's experts that are named by number; low-rank ones are merged.

    Layers of `moe_layers` that have no experts in the folder get general's feed-forward.

    Raises:
        ModelError: tensors are missing or have another shape than config.json says.
    """
    states = [expert_state(source, number, layers=moe_layers) for number in experts]
    names = [source.experts[number] for number in experts]
    return build(source, states, said=source.roster.only(names), moe_layers=moe_layers)


def load_single(source: ModelSource, place: Pack | int, *, moe_layers: Sequence[int] | None = None) -> Any:
    """A model that holds one expert, at number 0: an exported one, or one of the folder's own.

    `moe_layers`: layers whose feed-forward may come from experts that are attached later; None: this one's.

    Raises:
        ModelError: tensors are missing, or do not fit.
    """
    if source.roster.learned:
        return load_model(source, experts=range(len(source.experts)), moe_layers=source.moe_layers)
    own = place.card.layers if isinstance(place, Pack) else source.moe_layers
    layers = sorted({*own, *(moe_layers or ())})
    state = expert_state(source, place, layers=layers)
    if isinstance(place, Pack):
        said: dict[str, Any] = {**place.said(place.card.expert, source), "domains": {}}
    else:
        said = source.roster.only([source.experts[place]])
    return build(source, [state], said=said, moe_layers=layers)


def build(
    source: ModelSource, states: Sequence[State], *, said: Mapping[str, Any], moe_layers: Sequence[int]
) -> Any:
    """A model of this folder's configuration: the trunk from its files, and one state per expert."""
    import torch

    from moe_retrieval.model.configuration import CONFIGS

    try:
        config = CONFIGS[source.family](**source.config, **said, moe_layers=list(moe_layers))
        with torch.device("meta"):
            model = model_class(source.family)(config)
    except (ValueError, KeyError) as error:
        raise ModelError(
            f"{source.folder} describes an impossible model: {error}", hint="fetch the model again"
        ) from error
    model.restore_buffers()
    config.name_or_path = source.name
    # what is no expert's, and feed-forwards of layers that have no experts
    state = read_state(source.weights, wanted=lambda name: _is_shared(name, moe_layers))
    fill(model, {**state, **numbered(states)}, where=str(source.folder))
    model.eval()
    return model


def _is_shared(name: str, moe_layers: Sequence[int]) -> bool:
    place = feed_forward_name(name)
    if place is not None:
        return place.layer not in moe_layers and place.expert == 0
    return row_name(name) is None


def numbered(states: Sequence[State]) -> State:
    """States of experts, by dense names, under the names they have in a model that holds them all."""
    routed: State = {}
    for number, state in enumerate(states):
        for name, tensor in state.items():
            place = feed_forward_name(name) or row_name(name)
            if place is not None:
                routed[place.routed(number)] = tensor
    return routed


def expert_state(source: ModelSource, place: Pack | int, *, layers: Sequence[int]) -> State:
    """All tensors of one expert in `layers` and of its own embeddings, by dense names.

    What the expert lacks is general's; low-rank deltas are merged into the weights.
    """
    state = _of_folder(source, 0, layers)
    if isinstance(place, Pack):
        state |= read_state([place.weights])
    elif place:
        state |= _of_folder(source, place, layers)
    return levelled(merged(state))


def _of_folder(source: ModelSource, number: int, layers: Sequence[int]) -> State:
    def mine(name: str) -> bool:
        place, row = feed_forward_name(name), row_name(name)
        if place is not None:
            return place.expert == number and place.layer in layers
        return row is not None and row.expert == number

    return {_dense(name): tensor for name, tensor in read_state(source.weights, wanted=mine).items()}


def _dense(name: str) -> str:
    place, row = feed_forward_name(name), row_name(name)
    return place.dense if place is not None else row.part if row is not None else name


def merged(state: Mapping[str, torch.Tensor]) -> State:
    """Tensors with low-rank deltas added to their weights: weight + up @ down."""
    stems = {name.removesuffix(".up") for name in state if name.endswith(".up")}
    plain = {name: tensor for name, tensor in state.items() if not name.endswith((".up", ".down"))}
    for stem in stems:
        delta = state[f"{stem}.up"].float() @ state[f"{stem}.down"].float()
        weight = plain[f"{stem}.weight"]
        plain[f"{stem}.weight"] = (weight.float() + delta).to(weight.dtype)
    return plain


def levelled(state: State) -> State:
    """An expert that has grown a branch in some layers gets one that does nothing in its others."""
    import torch

    if not any(name.endswith(".growth.weight") for name in state):
        return state
    ends = ("output.dense.weight", "Wo.weight")  # (width, inner)
    for name, tensor in list(state.items()):
        end = next((end for end in ends if name.endswith(end)), None)
        growth = name.removesuffix(end or "") + "growth"
        if end is not None and f"{growth}.weight" not in state:
            state[f"{growth}.weight"] = torch.zeros_like(tensor.T).contiguous()
            state[f"{growth}.bias"] = torch.ones_like(tensor[0])
    return state


def read_state(files: Iterable[Path], *, wanted: Callable[[str], bool] = lambda _name: True) -> State:
    """Tensors of safetensors files by canonical name; only those that are wanted are read."""
    import safetensors

    state: State = {}
    for file in files:
        try:
            with safetensors.safe_open(file, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 - no dictionary
                    plain = name if row_name(name) else canonical_name(name)
                    if plain is not None and wanted(plain):
                        state[plain] = stored.get_tensor(name)
        except (safetensors.SafetensorError, OSError) as error:
            raise ModelError(f"{file} cannot be read: {error}", hint="fetch the model again") from error
    return state


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


def attach(
    model: Any, name: str, state: Mapping[str, torch.Tensor], *, where: str, words: Sequence[str] = ()
) -> int:
    """Add an expert from tensors with dense names; returns its number.

    In layers that the tensors do not cover, the new expert is the first one's own module, not a copy. Other
    threads may go on using the model: the experts it has stay where they are.

    Raises:
        ModelError: the tensors do not fit, or are for a layer that has no experts; the model is as before.
    """
    by_layer: dict[int, State] = {}
    for dense, tensor in state.items():
        if (place := feed_forward_name(dense)) is not None:
            by_layer.setdefault(place.layer, {})[place.part] = tensor
    layers = dict(model.expert_layers)
    if outside := sorted(set(by_layer) - set(layers)):
        raise ModelError(
            f"{where} has an expert for layer {outside[0]}, where the model has none",
            hint=f"layers: {sorted(layers)}",
        )
    fresh = {
        number: _expert(model, type(layers[number].experts[0]), parts, where=where)
        for number, parts in by_layer.items()
    }
    rows = _rows(model, state, where=where)
    for number, layer in layers.items():
        layer.experts.append(fresh.get(number, layer.experts[0]))
    if rows is not None:
        model.input_rows.append(rows)
    config = model.config
    config.experts.append(name)
    if "token" in state:
        config.domain_tokens.append(name)
    if words:
        config.vocabulary[name] = list(words)
    return len(config.experts) - 1


def _expert(model: Any, kind: Any, parts: Mapping[str, torch.Tensor], *, where: str) -> torch.nn.Module:
    import torch

    ranks = [len(tensor) for part, tensor in parts.items() if part.endswith(".down")]
    with torch.device("meta"):
        expert = kind(model.config, rank=ranks[0] if ranks else 0, gated="growth.weight" in parts)
    fill(expert, parts, where=where)
    moved: torch.nn.Module = expert.to(model.device, model.dtype).train(model.training)
    return moved


def _rows(model: Any, state: Mapping[str, torch.Tensor], *, where: str) -> torch.nn.Module | None:
    """The new expert's own embeddings; the model gets room for such, if it has none yet."""
    import torch

    from moe_retrieval.model.family import InputRows

    own = {part: state[part] for part in ("token", "words") if part in state}
    if not own and model.input_rows is None:
        return None
    width = model.config.hidden_size
    if model.input_rows is None:
        plain = [InputRows(width, token=False, words=0) for _ in model.config.experts]
        model.input_rows = torch.nn.ModuleList(plain)
    rows = InputRows(width, token="token" in own, words=len(own.get("words", ())))
    fill(rows, own, where=where)
    return rows.to(model.device, model.dtype)
