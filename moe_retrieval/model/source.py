"""What a model folder says: family, sizes, experts, pooling, limits. JSON only; nothing in it runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import ModelError
from moe_retrieval.hashing import verified_sha256
from moe_retrieval.model.fields import FAMILIES, FieldError, positions, read_fields
from moe_retrieval.model.roster import Roster, read_roster
from moe_retrieval.model.weights import Digests, digests_of_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_WIDEST = 65_536
_POOLINGS = ("mean", "cls")
_MODULES = ("Transformer", "ExpertTransformer", "Pooling", "ExpertHead", "Normalize")
HEAD = "2_Head"
"""Folder of the pooling head beside the weights."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A checked description of a model folder; no weights are read yet."""

    folder: Path
    name: str
    family: str
    config: Mapping[str, Any]
    weights: tuple[Path, ...]
    tokenizer: Path
    pooling: str
    max_length: int
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    roster: Roster = field(default_factory=Roster)
    head: Path | None = None
    outputs: int = 0

    @property
    def dim(self) -> int:
        """Width of the vectors: the head's, where there is one."""
        return self.outputs or int(self.config["hidden_size"])

    @property
    def layers(self) -> int:
        return int(self.config["num_hidden_layers"])

    @property
    def positions(self) -> int:
        """The most tokens a text may have."""
        return positions(self.config, self.family)

    @property
    def experts(self) -> tuple[str, ...]:
        return self.roster.experts

    @property
    def domains(self) -> Mapping[str, str]:
        return self.roster.domains

    @property
    def moe_layers(self) -> tuple[int, ...]:
        return self.roster.moe_layers

    @property
    def routing(self) -> str:
        return self.roster.routing

    def pooled(self, pooling: str) -> str:
        """How token vectors become one, as fingerprints have it: with the head's sha256, if there is one."""
        return f"{pooling}+head {verified_sha256(self.head)}" if self.head else pooling

    def digests(self) -> Digests:
        """Digests of the weights; computed anew where a file is another than when they last were."""
        return digests_of_files(self.weights)


def open_source(folder: Path, *, name: str = "") -> ModelSource:
    """Read what a model folder says.

    Raises:
        ModelError: a file is missing, damaged or pickled, or the model is of a kind that is not supported.
    """
    if not folder.is_dir():
        raise ModelError(
            f"there is no model folder {folder}", hint="give a folder with config.json, or a hub id"
        )
    raw = _read_object(folder / "config.json")
    family = _family(raw, folder)
    try:
        config = read_fields(raw, family)
        roster = read_roster(raw, layers=config["num_hidden_layers"])
    except FieldError as error:
        raise ModelError(f"{folder / 'config.json'} has {error}", hint="fetch the model again") from error
    modules = _modules(folder)
    return ModelSource(
        folder=folder,
        name=name or folder.name,
        family=family,
        config=MappingProxyType(config),
        weights=_weights(folder),
        tokenizer=_tokenizer(folder),
        pooling=_pooling(folder, modules),
        max_length=_max_length(folder, positions=positions(config, family)),
        lower_case=_optional(folder / "sentence_bert_config.json").get("do_lower_case") is True,
        prompts=_prompts(folder),
        roster=roster,
        **_head(folder, modules, width=config["hidden_size"]),
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path.parent} has no {path.name}", hint="is it the folder of a model?") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}", hint="fetch the model again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object", hint="fetch the model again")
    return value


def _optional(path: Path) -> dict[str, Any]:
    return _read_object(path) if path.is_file() else {}


def _family(raw: Mapping[str, Any], folder: Path) -> str:
    kind = raw.get("model_type")
    family = str(kind).removeprefix("moe_").replace("_", "-")
    if family not in FAMILIES:
        raise ModelError(
            f"{folder} holds a model of type {kind!r}, which is not supported",
            hint=f"supported: {', '.join(FAMILIES)}",
        )
    if raw.get("is_decoder") or raw.get("add_cross_attention"):
        raise ModelError(
            f"{folder} holds a decoder, which does not embed texts", hint="give an encoder model"
        )
    if raw.get("position_embedding_type", "absolute") != "absolute":
        raise ModelError(
            f"{folder} uses relative positions, which is not supported", hint="give another model"
        )
    return family


def _weights(folder: Path) -> tuple[Path, ...]:
    if (whole := folder / "model.safetensors").is_file():
        return (whole,)
    if (index := folder / "model.safetensors.index.json").is_file():
        shards = _read_object(index).get("weight_map")
        names = sorted(set(shards.values())) if isinstance(shards, dict) else []
        if names and all(isinstance(name, str) and "/" not in name for name in names):
            return tuple(folder / name for name in names)
        raise ModelError(f"{index} names no files of weights", hint="fetch the model again")
    if pickled := sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt")):
        raise ModelError(
            f"{folder} has its weights as a pickle ({pickled[0].name}), which can run code when it is read",
            hint="save the model as safetensors: model.save_pretrained(folder, safe_serialization=True)",
        )
    raise ModelError(f"{folder} has no model.safetensors", hint="fetch the model again")


def _tokenizer(folder: Path) -> Path:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelError(
            f"{folder} has no tokenizer.json",
            hint="save it with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
        )
    return file


def _modules(folder: Path) -> dict[str, str]:
    """Kind -> sub-folder of the sentence-transformers modules; empty for a plain model folder."""
    path = folder / "modules.json"
    if not path.is_file():
        return {}
    try:
        listed = json.loads(path.read_text("utf-8"))
        modules = {str(entry["type"]).rpartition(".")[2]: str(entry["path"]) for entry in listed}
    except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        raise ModelError(f"{path} is not a list of modules: {error}", hint="fetch the model again") from error
    if strange := sorted(set(modules) - set(_MODULES)):
        raise ModelError(
            f"{folder} adds a {strange[0]} module after the encoder, which is not supported",
            hint=f"supported: {', '.join(_MODULES)}",
        )
    return modules


def _pooling(folder: Path, modules: Mapping[str, str]) -> str:
    place = modules.get("Pooling", "1_Pooling")
    if ".." in place or place.startswith("/"):
        raise ModelError(
            f"{folder} keeps its pooling outside of itself: {place}", hint="fetch the model again"
        )
    raw = _optional(folder / place / "config.json")
    old = [name for name, on in raw.items() if name.startswith("pooling_mode_") and on is True]
    modes = raw.get("pooling_mode") or [name.removeprefix("pooling_mode_") for name in old] or ["mean"]
    listed = [modes] if isinstance(modes, str) else list(modes)
    names = [str(mode).removesuffix("_tokens").removesuffix("_token") for mode in listed]
    if len(names) != 1 or raw.get("include_prompt") is False:
        raise ModelError(
            f"{folder} pools by {', '.join(names)}, which is not supported", hint=_known_poolings()
        )
    return check_pooling(names[0])


def _head(folder: Path, modules: Mapping[str, str], *, width: int) -> dict[str, Any]:
    """The pooling head's weights and width, if the folder lists one."""
    if "ExpertHead" not in modules:
        return {}
    said = _read_object(folder / HEAD / "config.json")
    weights = folder / HEAD / "model.safetensors"
    outputs = said.get("outputs")
    sound = said.get("inputs") == width and type(outputs) is int and 0 < outputs <= _WIDEST
    if modules["ExpertHead"] != HEAD or not weights.is_file() or not sound:
        raise ModelError(
            f"{folder / HEAD} is no pooling head for vectors of width {width}", hint="fetch the model again"
        )
    return {"head": weights, "outputs": outputs}


def check_pooling(name: str) -> str:
    """`name`, if it is a way of pooling that the engines know.

    Raises:
        ModelError: it is not.
    """
    if name not in _POOLINGS:
        raise ModelError(f"pooling {name!r} is not supported", hint=_known_poolings())
    return name


def _known_poolings() -> str:
    return f"supported: {', '.join(_POOLINGS)}"


def _max_length(folder: Path, *, positions: int) -> int:
    said = _optional(folder / "sentence_bert_config.json").get("max_seq_length")
    if said is None:
        said = _optional(folder / "tokenizer_config.json").get("model_max_length")
    if isinstance(said, int | float) and said >= 8:
        return min(int(said), positions)
    return positions


def _prompts(folder: Path) -> Mapping[str, str]:
    said = _optional(folder / "config_sentence_transformers.json").get("prompts")
    named = {str(k): v for k, v in said.items() if isinstance(v, str)} if isinstance(said, dict) else {}
    document = named.get("document") or named.get("passage") or ""
    return MappingProxyType({"query": named.get("query", ""), "document": document})
