"""What an expert, or a model's way to its experts, can grow: low-rank deltas, a branch, words, a routing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import ModelError, UsageError
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import nn


def with_low_rank(expert: nn.Module, *, rank: int) -> nn.Module:
    """An expert's module with a low-rank delta, which starts as zero, on each of its two linears.

    Raises:
        UsageError: the rank is below one.
    """
    if rank < 1:
        raise UsageError(f"the rank of a low-rank expert is {rank}", hint="give one above 0, such as 8")
    from torch.nn import Linear

    from moe_retrieval.model.experts import Growth, LowRankLinear

    for name, module in list(expert.named_modules()):
        if isinstance(module, Linear) and not isinstance(module, Growth | LowRankLinear):
            fresh = LowRankLinear(
                module.in_features, module.out_features, rank=rank, bias=module.bias is not None
            ).to(module.weight.device, module.weight.dtype)
            fresh.load_state_dict(module.state_dict(), strict=False)
            _put(expert, name, fresh)
    return expert


def merge_low_rank(model: Any, name: str) -> None:
    """Add an expert's low-rank deltas to its weights, and make its linears plain again."""
    import torch

    from moe_retrieval.model import surgery
    from moe_retrieval.model.experts import LowRankLinear

    number = surgery.expert_number(model, name)
    for _, layer in model.expert_layers:
        expert = layer.experts[number]
        for place, module in list(expert.named_modules()):
            if isinstance(module, LowRankLinear):
                plain = torch.nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
                weight = module.weight + module.up @ module.down
                plain.weight = torch.nn.Parameter(weight.detach())
                plain.bias = module.bias
                _put(expert, place, plain)
    model.config.low_rank.pop(name, None)


def _put(module: nn.Module, place: str, part: nn.Module) -> None:
    parent, _, last = place.rpartition(".")
    module.get_submodule(parent).add_module(last, part)


def grow(model: Any, name: str) -> None:
    """Give an expert a multiplicative branch that starts as one everywhere: its vectors stay as they are.

    Raises:
        UsageError: there is no such expert, or it has a branch already.
    """
    from moe_retrieval.model import surgery
    from moe_retrieval.model.experts import Growth

    number = surgery.expert_number(model, name)
    config = model.config
    if name in config.gated:
        raise UsageError(f"expert {name!r} has grown a branch already", hint="it can be trained as it is")
    inner = int(config.intermediate_size)
    for _, layer in model.expert_layers:
        layer.experts[number].growth = Growth(config.hidden_size, inner).to(model.device, model.dtype)
    config.gated.append(name)


def add_words(model: Any, name: str, words: Mapping[str, Sequence[int]]) -> None:
    """Give an expert words that are one token for it alone; other experts' tokens stay as they are.

    Args:
        model: the model.
        name: the expert; not general, which every domain without an expert uses.
        words: word -> token ids that it has now; its embedding starts as their mean.

    Raises:
        UsageError: the expert is general, has one of the words, or a word has no tokens.
    """
    import torch

    from moe_retrieval.model import surgery

    number, config = surgery.expert_number(model, name), model.config
    known = config.vocabulary.get(name, [])
    if name == GENERAL:
        raise UsageError("general cannot have words of its own", hint="add a domain first")
    if bad := [word for word, ids in words.items() if word in known or not word.strip() or not ids]:
        raise UsageError(f"the word {bad[0]!r} cannot be added", hint="give new words that are not empty")
    if config.learned:
        raise UsageError("a learned gate mixes experts: words cannot belong to one", hint="route by index")
    table = model.get_input_embeddings().weight
    fresh = torch.stack([table[list(ids)].mean(dim=0) for ids in words.values()]).detach()
    rows = _rows_of(model)[number]
    rows.words = torch.nn.Parameter(fresh if rows.words is None else torch.cat([rows.words.detach(), fresh]))
    config.vocabulary[name] = [*known, *words]


def _rows_of(model: Any) -> Any:
    import torch

    from moe_retrieval.model.family import InputRows

    if model.input_rows is None:
        plain = [InputRows(model.config.hidden_size, token=False, words=0) for _ in model.config.experts]
        model.input_rows = torch.nn.ModuleList(plain).to(model.device, model.dtype)
    return model.input_rows


def set_routing(model: Any, routing: str, *, top_k: int = 1, first_token: int | None = None) -> None:
    """Change how texts reach the experts; a model whose experts are equal keeps computing what it did.

    Args:
        model: the model.
        routing: one of the routings of `ExpertFields`.
        top_k: experts that a learned gate joins.
        first_token: id of the token that every text begins with, for "domain_token": each expert's own first
            token starts as a copy of its embedding.

    Raises:
        UsageError: the routing is unknown, or cannot be had by this model.
    """
    config = model.config
    fields = {**config.to_dict(), "routing": routing, "top_k": top_k, "domain_tokens": None}
    try:
        wanted = type(config)(**{name: value for name, value in fields.items() if name != "model_type"})
    except ValueError as error:
        raise UsageError(str(error), hint="see the model's card: moeret model info") from error
    if routing == "domain_token" and first_token is None:
        raise UsageError("the first token of a text is not known", hint="first_token_of(tokenizer.json)")
    config.routing, config.top_k, config.domain_tokens = routing, top_k, wanted.domain_tokens
    _make_gates(model)
    _make_tokens(model, first_token)


def _make_gates(model: Any) -> None:
    from moe_retrieval.model.routing import Gate

    for _, layer in model.expert_layers:
        layer.gate = Gate(model.config).to(model.device, model.dtype) if model.config.learned else None
        layer.top_k = model.config.top_k


def _make_tokens(model: Any, first_token: int | None) -> None:
    import torch

    wanted = model.config.routing == "domain_token"
    if not wanted and model.input_rows is None:
        return
    for rows in _rows_of(model):
        own = model.get_input_embeddings().weight[first_token].detach().clone() if wanted else None
        rows.token = None if own is None else torch.nn.Parameter(own)
    if not model.config.has_rows:
        model.input_rows = None


def first_token_of(tokenizer: Path) -> int:
    """Id of the token that a tokenizer.json puts before every text.

    Raises:
        ModelError: it puts none there.
    """
    said = json.loads(tokenizer.read_text("utf-8")).get("post_processor") or {}
    steps = [said, *said.get("processors", [])]
    for step in steps:
        if isinstance(step.get("cls"), list):  # BertProcessing, RobertaProcessing
            return int(step["cls"][1])
        single = step.get("single") or [{}]
        if (special := single[0].get("SpecialToken")) is not None:
            return int(step["special_tokens"][special["id"]]["ids"][0])
    raise ModelError(
        f"{tokenizer} puts no token before a text",
        hint="route by index: a domain token replaces that token",
    )


def widen(gate: Any, *, like: int) -> None:
    """Give a gate one more expert, as likely as the one it is like."""
    _resize(gate, [*range(gate.out_features), like])


def narrow(gate: Any, *, without: int) -> None:
    """Take an expert out of a gate."""
    _resize(gate, [at for at in range(gate.out_features) if at != without])


def _resize(gate: Any, rows: Sequence[int]) -> None:
    import torch

    weight: torch.Tensor = gate.weight.detach()[list(rows)].clone()
    gate.weight, gate.out_features = torch.nn.Parameter(weight), len(rows)
