"""Make a model with experts out of a dense one, and add, drop, assign, export, import its experts."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import ModelError, UsageError, did_you_mean
from moe_retrieval.model import packs
from moe_retrieval.model.memory import dense_state, digests, raw_tensors
from moe_retrieval.model.weights import canonical_name, digests_of, layer_of
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_OF_THE_DENSE = ("model_type", "architectures", "auto_map")


def upcycle(dense: Any, *, moe_layers: Sequence[int] | None = None) -> Any:
    """A model with one expert, `general`, that computes exactly what `dense` does; no memory is shared.

    Args:
        dense: a model in memory (BertModel, RobertaModel, XLMRobertaModel, MPNetModel, ModernBertModel), or a
            model folder.
        moe_layers: layers that get experts; None: all.

    Raises:
        ModelError: the folder cannot be used, or the model is of another family.
    """
    if isinstance(dense, Path | str):
        return _upcycle_folder(Path(dense), moe_layers=moe_layers)
    from moe_retrieval.model.configuration import CONFIGS
    from moe_retrieval.model.loading import fill, model_class, numbered

    family = dense.config.model_type
    if family not in CONFIGS:
        raise ModelError(
            f"a model of type {family!r} is not supported", hint=f"supported: {', '.join(CONFIGS)}"
        )
    said = {name: value for name, value in dense.config.to_dict().items() if name not in _OF_THE_DENSE}
    config = CONFIGS[family](**said, moe_layers=None if moe_layers is None else list(moe_layers))
    model = model_class(family)(config)
    named = ((canonical_name(name), tensor) for name, tensor in dense.state_dict().items())
    state = {name: tensor.detach().clone() for name, tensor in named if name is not None}
    general = {name: state.pop(name) for name in [*state] if layer_of(name) in config.moe_layers}
    fill(model, {**state, **numbered([general])}, where="the dense model")
    model.train(dense.training)
    return model


def _upcycle_folder(folder: Path, *, moe_layers: Sequence[int] | None) -> Any:
    from moe_retrieval.model.loading import load_model
    from moe_retrieval.model.source import open_source

    source = open_source(folder)
    layers = range(source.layers) if moe_layers is None else moe_layers
    return load_model(source, experts=[0], moe_layers=list(layers))


def load(folder: Path | str) -> Any:
    """A saved model with all its experts, ready to be changed or trained."""
    from moe_retrieval.model.loading import load_model
    from moe_retrieval.model.source import open_source

    source = open_source(Path(folder))
    return load_model(source, experts=range(len(source.experts)), moe_layers=source.moe_layers)


def save(model: Any, folder: Path | str, *, like: Path | str, head: Any = None) -> Path:
    """Save a model so that transformers, sentence-transformers and moeret open it.

    `like`: the folder it was made from, whose tokenizer, pooling and head it gets; `head`: a `PoolingHead` in
    place of that folder's.
    """
    from moe_retrieval.model.layout import write_layout
    from moe_retrieval.model.source import open_source

    target = Path(folder)
    with no_progress():
        model.save_pretrained(target)
    write_layout(target, like=open_source(Path(like)), config=model.config, head=head)
    return target


@contextmanager
def no_progress() -> Iterator[None]:
    """Without the library's progress bar, which belongs to no caller of ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def expert_number(model: Any, name: str) -> int:
    """Position of an expert in every layer.

    Raises:
        UsageError: the model has no such expert.
    """
    names: list[str] = model.config.experts
    if name not in names:
        raise UsageError(f"the model has no expert {name!r}", hint=did_you_mean(name, names))
    return names.index(name)


def add_expert(model: Any, name: str, *, source: str = GENERAL, rank: int = 0) -> None:
    """Add an expert that starts as a copy of `source`, in every layer that has experts.

    `rank`: above zero, the expert trains a low-rank delta of this rank to its weights, which stay general's.

    Raises:
        UsageError: there is an expert of this name already, none named `source`, or a delta is wanted to
            another expert than general.
    """
    from moe_retrieval.model import extend

    _check_new(model, name)
    if rank and source != GENERAL:
        raise UsageError("a low-rank expert is a delta to general", hint="leave out the source, or the rank")
    number = expert_number(model, source)
    for _, layer in model.expert_layers:
        fresh = copy.deepcopy(layer.experts[number])
        layer.experts.append(extend.with_low_rank(fresh, rank=rank) if rank else fresh)
        if layer.gate is not None:
            extend.widen(layer.gate, like=number)
    if model.input_rows is not None:
        model.input_rows.append(copy.deepcopy(model.input_rows[number]))
    _note_copy(model.config, name, source=source, rank=rank)


def _note_copy(config: Any, name: str, *, source: str, rank: int) -> None:
    config.experts.append(name)
    for listed in (config.gated, config.domain_tokens):
        if source in listed:
            listed.append(name)
    if source in config.vocabulary:
        config.vocabulary[name] = list(config.vocabulary[source])
    if rank or source in config.low_rank:
        config.low_rank[name] = rank or config.low_rank[source]


def drop_expert(model: Any, name: str) -> None:
    """Remove an expert; its domains fall back to `general`."""
    from moe_retrieval.model import extend

    if name == GENERAL:
        raise UsageError("the general expert cannot be dropped", hint="other domains fall back to it")
    number = expert_number(model, name)
    for _, layer in model.expert_layers:
        del layer.experts[number]
        if layer.gate is not None:
            extend.narrow(layer.gate, without=number)
    if model.input_rows is not None:
        del model.input_rows[number]
    config = model.config
    for listed in (config.experts, config.gated, config.domain_tokens):
        listed[:] = [other for other in listed if other != name]
    config.low_rank.pop(name, None)
    config.vocabulary.pop(name, None)
    config.domains = {domain: expert for domain, expert in config.domains.items() if expert != name}
    config.top_k = min(config.top_k, len(config.experts))


def add_domain(model: Any, domain: str, *, source: str = GENERAL, rank: int = 0) -> None:
    """Give a domain an expert of its own, of its name: a copy of `source`, or a low-rank delta to general.

    Raises:
        UsageError: there is such an expert already, or no `source`.
    """
    add_expert(model, domain, source=source, rank=rank)
    assign(model, domain, domain)


def drop_domain(model: Any, domain: str) -> None:
    """Take a domain's expert out of the model, unless another domain uses it too; it is on `general` then.

    Raises:
        UsageError: the model knows no such domain.
    """
    expert = _expert_of(model, domain)
    assign(model, domain, GENERAL)
    if expert not in model.config.domains.values():
        drop_expert(model, expert)


def rename_domain(model: Any, domain: str, to: str) -> None:
    """Call a domain otherwise; an expert that has its name and serves it alone gets the new name, too.

    Raises:
        UsageError: the model knows no such domain, or knows the new one already.
    """
    expert = _expert_of(model, domain)
    if not to or to in model.config.domains or to in model.config.experts:
        raise UsageError(f"there is a domain or expert {to!r} already", hint="choose another name")
    config = model.config
    config.domains = {to if name == domain else name: own for name, own in config.domains.items()}
    if expert == domain and list(config.domains.values()).count(expert) == 1:
        for listed in (config.experts, config.gated, config.domain_tokens):
            listed[:] = [to if name == expert else name for name in listed]
        for named in (config.low_rank, config.vocabulary):
            if expert in named:
                named[to] = named.pop(expert)
        config.domains[to] = to


def _expert_of(model: Any, domain: str) -> str:
    domains: dict[str, str] = model.config.domains
    if domain not in domains:
        raise UsageError(f"the model has no domain {domain!r}", hint=did_you_mean(domain, domains))
    return domains[domain]


def assign(model: Any, domain: str, expert: str) -> None:
    """Let a domain use an expert; `general` takes it back to the pretrained one."""
    expert_number(model, expert)
    model.config.domains.pop(domain, None)
    if expert != GENERAL:
        model.config.domains[domain] = expert


def number_of_domain(model: Any, domain: str) -> int:
    """What `expert_ids` must hold for a text of this domain."""
    return expert_number(model, model.config.domains.get(domain, GENERAL))


def export_expert(model: Any, name: str, folder: Path | str, *, card: Mapping[str, Any] | None = None) -> str:
    """Write `<folder>/<sha>/expert.safetensors` and `card.json`, with `card` as notes; returns the sha256.

    Of a low-rank expert, the deltas alone.
    """
    number = expert_number(model, name)
    tensors = raw_tensors(model)
    layers = tuple(model.config.moe_layers)
    chosen = packs.select_expert(tensors, number)
    moved = {
        key: tensor for key, tensor in chosen.items() if (layer := layer_of(key)) is None or layer in layers
    }
    base = digests_of(tensors)
    trunk = base.without(() if packs.is_low_rank(moved) else layers)
    said = packs.Card(
        name, str(model.config.name_or_path) or "an unnamed model", trunk, layers, dict(card or {})
    )
    return packs.write_pack(moved, Path(folder), card=said, words=model.config.vocabulary.get(name, ()))


def import_expert(model: Any, folder: Path | str, *, name: str) -> None:
    """Add the expert of a pack `<folder>/<sha>` under a name; low-rank deltas are merged.

    Raises:
        UsageError: there is an expert of this name already.
        ChecksumError: the weights are not those the folder's name promises.
        ModelMismatchError: the expert was trained on another trunk.
        ModelError: the pack is damaged or has other shapes.
    """
    from moe_retrieval.model.loading import attach, levelled, merged, read_state

    _check_new(model, name)
    pack = packs.open_pack(Path(folder))
    packs.check_fit(pack, digests(model), name=_name_of(model))
    # layers that the pack leaves to general get a copy, not its module: training must not tie them
    general = {key: tensor.detach().clone() for key, tensor in dense_state(model, 0).items()}
    state = levelled(merged({**general, **read_state([pack.weights])}))
    attach(model, name, state, where=str(pack.folder), words=pack.words)
    if any(key.endswith("growth.weight") for key in state):
        model.config.gated.append(name)


def _name_of(model: Any) -> str:
    return str(model.config.name_or_path) or "an unnamed model"


def _check_new(model: Any, name: str) -> None:
    if not name or name in model.config.experts:
        raise UsageError(f"there is an expert {name!r} already", hint="drop it first, or choose another name")
