"""Tensors in weights files, without torch: their names and digests, what is trunk, what is an expert."""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_FEED_FORWARD = re.compile(
    r"encoder\.layer\.(\d+)\.(?:experts\.(\d+)\.)?((?:intermediate|output)\.dense\.(?:weight|bias))"
)
_BUFFERS = frozenset({"embeddings.position_ids", "embeddings.token_type_ids"})
_OLD_NORMS = {"gamma": "weight", "beta": "bias"}


@dataclass(frozen=True, slots=True)
class FeedForwardName:
    """Place of a feed-forward tensor: layer, expert (in a dense model 0, general), `output.dense.bias`."""

    layer: int
    expert: int
    part: str

    @property
    def dense(self) -> str:
        """The tensor's name in a dense model, and in an expert pack."""
        return f"encoder.layer.{self.layer}.{self.part}"

    @property
    def routed(self) -> str:
        """The tensor's name in a layer with experts."""
        return f"encoder.layer.{self.layer}.experts.{self.expert}.{self.part}"


@dataclass(frozen=True, slots=True)
class RawTensor:
    """Bytes of a tensor and what they mean; `dtype` as safetensors writes it (F32, BF16, ...)."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview

    def digest(self) -> str:
        head = json.dumps([self.dtype, list(self.shape)]).encode()
        digest = hashlib.sha256(head)
        digest.update(self.data)
        return digest.hexdigest()


def canonical_name(name: str) -> str | None:
    """The name a tensor has in BertModel; None for heads, poolers and buffers, which no vector needs."""
    plain = name.removeprefix("bert.")
    if plain in _BUFFERS or not plain.startswith(("embeddings.", "encoder.")):
        return None
    stem, _, last = plain.rpartition(".")
    return f"{stem}.{_OLD_NORMS[last]}" if last in _OLD_NORMS else plain


def feed_forward_name(name: str) -> FeedForwardName | None:
    """What a canonical name says, if it is a tensor of a feed-forward."""
    found = _FEED_FORWARD.fullmatch(name)
    return FeedForwardName(int(found[1]), int(found[2] or 0), found[3]) if found else None


def read_tensors(files: Iterable[Path]) -> dict[str, RawTensor]:
    """Tensors of these safetensors files, by canonical name; the bytes stay on disk until looked at."""
    tensors: dict[str, RawTensor] = {}
    for file in files:
        for name, tensor in _read_file(file).items():
            if (plain := canonical_name(name)) is not None:
                tensors[plain] = tensor
    return tensors


def _read_file(file: Path) -> dict[str, RawTensor]:
    header, start = _header(file)
    with file.open("rb") as stream:
        view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        tensors[name] = RawTensor(entry["dtype"], tuple(entry["shape"]), view[start + first : start + last])
    return tensors


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, checked by the library, and where its data begins."""
    import safetensors

    try:
        with safetensors.safe_open(str(file), framework="numpy"):
            pass
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(
            f"{file} is not a readable safetensors file: {error}",
            hint="fetch the model again; the file may be cut short",
        ) from error
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    return header, 8 + size


@dataclass(frozen=True, slots=True)
class Digests:
    """Digests of a model's parts. `feed_forward[expert][layer]`; expert 0 is general and has every layer."""

    trunk: str
    feed_forward: tuple[Mapping[int, str], ...]

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted(self.feed_forward[0]))

    def expert(self, layers: Mapping[int, str] | None = None) -> str:
        """Digest of the feed-forwards that compute an expert's texts: its own, else general's."""
        effective = {**self.feed_forward[0], **(layers or {})}
        return _join(f"{layer} {effective[layer]}" for layer in sorted(effective))

    def without(self, layers: Sequence[int]) -> str:
        """Digest of what an expert over `layers` builds on: the trunk, and general in the other layers."""
        rest = [f"{layer} {self.feed_forward[0][layer]}" for layer in self.layers if layer not in layers]
        return _join([self.trunk, *rest]) if rest else self.trunk


def digests_of(tensors: Mapping[str, RawTensor]) -> Digests:
    """Digests of the parts; the same for a dense model and for the model with experts made from it."""
    trunk: list[str] = []
    parts: dict[int, dict[int, list[str]]] = {0: {}}
    for name in sorted(tensors):
        digest = tensors[name].digest()
        place = feed_forward_name(name)
        if place is None:
            trunk.append(f"{name} {digest}")
        else:
            parts.setdefault(place.expert, {}).setdefault(place.layer, []).append(f"{place.part} {digest}")
    experts = range(max(parts) + 1)
    joined = ({layer: _join(lines) for layer, lines in parts.get(expert, {}).items()} for expert in experts)
    return Digests(_join(trunk), tuple(joined))


def _join(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
