"""Which fields of a config.json reach a model, family by family, and what values they may have."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Only the fields named here reach the model: others may ask transformers to fetch code or kernels.
_MOST, _MOST_LAYERS = 10_000_000, 1_000
_FEWEST_POSITIONS = 3  # a token between the first and the last


@dataclass(frozen=True, slots=True)
class Family:
    """A family's fields with its defaults.

    `sizes` are whole numbers above zero, `rates` numbers from 0 up to 1, `words` texts, `flags` booleans;
    `offset`: positions that no token gets, since they begin behind the padding token's.
    """

    sizes: Mapping[str, int]
    rates: Mapping[str, float]
    words: Mapping[str, str]
    flags: Mapping[str, bool] = field(default_factory=dict)
    pad: int = 0
    offset: int = 0


_SIZES = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}
_DROPOUTS = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
_ROBERTA = Family(
    {**_SIZES, "vocab_size": 50265, "type_vocab_size": 2},
    {**_DROPOUTS, "layer_norm_eps": 1e-12},
    {"hidden_act": "gelu"},
    pad=1,
    offset=2,
)
FAMILIES = {
    "bert": Family(
        {**_SIZES, "type_vocab_size": 2}, {**_DROPOUTS, "layer_norm_eps": 1e-12}, {"hidden_act": "gelu"}
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "mpnet": Family(
        {**_SIZES, "vocab_size": 30527, "relative_attention_num_buckets": 32},
        {**_DROPOUTS, "layer_norm_eps": 1e-12},
        {"hidden_act": "gelu"},
        pad=1,
        offset=2,
    ),
    "modernbert": Family(
        {
            **_SIZES,
            "vocab_size": 50368,
            "intermediate_size": 1152,
            "num_hidden_layers": 22,
            "max_position_embeddings": 8192,
            "local_attention": 128,
        },
        {"norm_eps": 1e-5, "attention_dropout": 0.0, "embedding_dropout": 0.0, "mlp_dropout": 0.0},
        {"hidden_activation": "gelu"},
        {"norm_bias": False, "attention_bias": False, "mlp_bias": False},
        pad=50283,
    ),
}
"""Family -> its fields. The `model_type` of a config.json is its name, after "moe_" where it has experts."""

_ATTENTIONS = ("full_attention", "sliding_attention")
_THETAS = {
    "full_attention": ("global_rope_theta", 160_000.0),
    "sliding_attention": ("local_rope_theta", 10_000.0),
}


def read_fields(raw: Mapping[str, Any], family: str) -> dict[str, Any]:
    """The family's fields of a config.json, with its defaults for absent ones.

    Raises:
        FieldError: a value is impossible.
    """
    known = FAMILIES[family]
    said: dict[str, Any] = {}
    for name, usual in {**known.sizes, **known.rates, **known.words, **known.flags}.items():
        said[name] = raw.get(name, usual)
    for name in known.sizes:
        demand(name, said[name], type(said[name]) is int and 0 < said[name] <= _MOST)
    for name in known.rates:
        demand(name, said[name], type(said[name]) in (int, float) and 0 <= said[name] < 1)
    for name in known.words:
        demand(name, said[name], isinstance(said[name], str))
    for name in known.flags:
        demand(name, said[name], type(said[name]) is bool)
    said["pad_token_id"] = pad = raw.get("pad_token_id", known.pad)
    # positions are counted from behind the padding token: such a family cannot do without it
    padded = type(pad) is int and pad in range(said["vocab_size"])
    demand("pad_token_id", pad, padded or (pad is None and not known.offset))
    demand("num_hidden_layers", said["num_hidden_layers"], said["num_hidden_layers"] <= _MOST_LAYERS)
    longest = positions(said, family)
    demand("max_position_embeddings", said["max_position_embeddings"], longest >= _FEWEST_POSITIONS)
    demand(
        "num_attention_heads",
        said["num_attention_heads"],
        said["hidden_size"] % said["num_attention_heads"] == 0,
    )
    return said | (_modernbert(raw, said) if family == "modernbert" else {})


def positions(fields: Mapping[str, Any], family: str) -> int:
    """Tokens that the model has positions for."""
    offset = fields["pad_token_id"] + 1 if FAMILIES[family].offset else 0
    return int(fields["max_position_embeddings"]) - offset


def _modernbert(raw: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Which layers look at a window only, and the rotary bases of both kinds."""
    every = raw.get("global_attn_every_n_layers", 3)
    demand("global_attn_every_n_layers", every, type(every) is int and every > 0)
    usual = [
        "sliding_attention" if at % every else "full_attention" for at in range(said["num_hidden_layers"])
    ]
    types = raw.get("layer_types") or usual
    sound = (
        isinstance(types, list) and len(types) == len(usual) and all(kind in _ATTENTIONS for kind in types)
    )
    demand("layer_types", types, sound)
    return {"layer_types": types, "rope_parameters": {kind: _rope(raw, kind) for kind in _ATTENTIONS}}


def _rope(raw: Mapping[str, Any], kind: str) -> dict[str, Any]:
    name, usual = _THETAS[kind]
    given = raw.get("rope_parameters")
    own = given.get(kind) if isinstance(given, dict) else None
    own = own if isinstance(own, dict) else {}
    demand("rope_parameters", own, own.get("rope_type", "default") == "default")
    theta = own.get("rope_theta", raw.get(name, usual))
    demand(name, theta, type(theta) in (int, float) and 0 < theta < inf)
    return {"rope_type": "default", "rope_theta": float(theta)}


class FieldError(ValueError):
    """A field of a config.json has an impossible value."""

    def __init__(self, name: str, value: object) -> None:
        super().__init__(f"an impossible {name}: {value!r}")


def demand(name: str, value: object, sound: bool) -> None:
    """Raise `FieldError` unless the value is sound."""
    if not sound:
        raise FieldError(name, value)
