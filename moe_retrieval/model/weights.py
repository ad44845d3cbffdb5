"""Tensors in weights files, without torch: their names and digests, what is trunk, what is an expert."""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import ModelError
from moe_retrieval.hashing import remembered, verified_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_PART = r"((?:intermediate\.dense|output\.dense|Wi|Wo|growth)\.(?:weight|bias|down|up))"
_FEED_FORWARD = re.compile(rf"(encoder\.layer|layers)\.(\d+)\.(?:experts\.(\d+)\.|mlp\.)?{_PART}")
_ROW = re.compile(r"input_rows\.(\d+)\.(token|words)")
_PREFIXES = ("bert.", "roberta.", "mpnet.", "model.")
_ENCODER = ("embeddings.", "encoder.", "layers.", "final_norm.", "input_rows.")
_BUFFERS = frozenset({"embeddings.position_ids", "embeddings.token_type_ids"})
_NOTES = "__metadata__"
_DIGESTS = "digests 1"
"""Under which digests of files are remembered: to be raised when they would come out otherwise."""
_OLD_NORMS = {"gamma": "weight", "beta": "bias"}


@dataclass(frozen=True, slots=True)
class FeedForwardName:
    """Place of a feed-forward tensor: stack ("encoder.layer", ModernBERT's "layers"), layer, expert (in a
    dense model 0, general), and part (`output.dense.bias`).
    """

    stack: str
    layer: int
    expert: int
    part: str

    @property
    def dense(self) -> str:
        """The tensor's name in a dense model, and in an expert pack."""
        block = "mlp." if self.stack == "layers" else ""
        return f"{self.stack}.{self.layer}.{block}{self.part}"

    def routed(self, expert: int) -> str:
        """The tensor's name in a layer with experts."""
        return f"{self.stack}.{self.layer}.experts.{expert}.{self.part}"


@dataclass(frozen=True, slots=True)
class RowName:
    """Embeddings that belong to one expert: `token`, its first token, or `words`, its own words."""

    expert: int
    part: str

    def routed(self, expert: int) -> str:
        """The tensor's name in a model with experts; in a pack it is the part alone."""
        return f"input_rows.{expert}.{self.part}"


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
    """The name a tensor has in the family's base model; None for heads, poolers and buffers, which no vector
    needs.
    """
    prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
    plain = name.removeprefix(prefix)
    if plain in _BUFFERS or not plain.startswith(_ENCODER):
        return None
    stem, _, last = plain.rpartition(".")
    return f"{stem}.{_OLD_NORMS[last]}" if last in _OLD_NORMS else plain


def feed_forward_name(name: str) -> FeedForwardName | None:
    """What a canonical name says, if it is a tensor of a feed-forward."""
    found = _FEED_FORWARD.fullmatch(name)
    return FeedForwardName(found[1], int(found[2]), int(found[3] or 0), found[4]) if found else None


def layer_of(name: str) -> int | None:
    """Layer of a feed-forward tensor, or None."""
    place = feed_forward_name(name)
    return None if place is None else place.layer


def row_name(name: str) -> RowName | None:
    """What a canonical name, or a name in a pack, says, if it is an embedding that belongs to one expert."""
    if name in ("token", "words"):
        return RowName(0, name)
    found = _ROW.fullmatch(name)
    return RowName(int(found[1]), found[2]) if found else None


def read_tensors(files: Iterable[Path]) -> dict[str, RawTensor]:
    """Tensors of these safetensors files, by canonical name; the bytes stay on disk until looked at."""
    tensors: dict[str, RawTensor] = {}
    for file in files:
        for name, tensor in _read_file(file).items():
            plain = (
                name if row_name(name) else canonical_name(name)
            )  # a pack names its rows "token" and "words"
            if plain is not None:
                tensors[plain] = tensor
    return tensors


def read_metadata(file: Path) -> dict[str, str]:
    """What the header of a safetensors file notes beside its tensors."""
    header, _ = _header(file)
    notes: dict[str, str] = header.get(_NOTES, {})
    return notes


def _read_file(file: Path) -> dict[str, RawTensor]:
    header, start = _header(file)
    with file.open("rb") as stream:
        view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    tensors = {}
    for name, entry in header.items():
        if name == _NOTES:
            continue
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
    return header, 8 + size


def digests_of_files(files: Sequence[Path]) -> Digests:
    """Digests of the parts in these weights files, computed anew where a file is another than it was."""
    first, *others = files
    kind = " ".join([_DIGESTS, *map(verified_sha256, others)])
    return Digests.from_text(remembered(first, kind, lambda: digests_of(read_tensors(files)).to_text()))


@dataclass(frozen=True, slots=True)
class Digests:
    """Digests of a model's parts. `feed_forward[expert][layer]`; expert 0 is general and has every layer.
    `rows[expert]`: digests of its own embeddings, by part ("token", "words").
    """

    trunk: str
    feed_forward: tuple[Mapping[int, str], ...]
    rows: tuple[Mapping[str, str], ...] = ()

    @classmethod
    def from_text(cls, text: str) -> Digests:
        """What `to_text` wrote."""
        trunk, experts, rows = json.loads(text)
        own = ({int(layer): digest for layer, digest in one.items()} for one in experts)
        return cls(trunk, tuple(own), tuple(rows))

    def to_text(self) -> str:
        """All digests, as `from_text` reads them."""
        parts = ([dict(one) for one in part] for part in (self.feed_forward, self.rows))
        return json.dumps([self.trunk, *parts])

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted(self.feed_forward[0]))

    def expert(self, layers: Mapping[int, str] | None = None) -> str:
        """Digest of the feed-forwards that compute an expert's texts: its own, else general's."""
        effective = {**self.feed_forward[0], **(layers or {})}
        return join_digests(f"{layer} {effective[layer]}" for layer in sorted(effective))

    def all_experts(self) -> str:
        """Digest of every expert: what decides a vector where a gate may choose any."""
        return join_digests(self.expert(layers) for layers in self.feed_forward)

    def row(self, part: str, own: Mapping[str, str] | None = None) -> str:
        """Digest of an expert's own embeddings: its own, else general's, else empty."""
        general = self.rows[0] if self.rows else {}
        return {**general, **(own or {})}.get(part, "")

    def rows_of(self, expert: int) -> Mapping[str, str]:
        """Digests of an expert's own embeddings."""
        return self.rows[expert] if expert < len(self.rows) else {}

    def without(self, layers: Sequence[int]) -> str:
        """Digest of what an expert over `layers` builds on: the trunk, and general in the other layers."""
        rest = [f"{layer} {self.feed_forward[0][layer]}" for layer in self.layers if layer not in layers]
        return join_digests([self.trunk, *rest]) if rest else self.trunk


def digests_of(tensors: Mapping[str, RawTensor]) -> Digests:
    """Digests of the parts; the same for a dense model and for the model with experts made from it."""
    trunk: list[str] = []
    parts: dict[int, dict[int, list[str]]] = {0: {}}
    rows: dict[int, dict[str, str]] = {0: {}}
    for name in sorted(tensors):
        digest = tensors[name].digest()
        if (place := feed_forward_name(name)) is not None:
            parts.setdefault(place.expert, {}).setdefault(place.layer, []).append(f"{place.part} {digest}")
        elif (row := row_name(name)) is not None:
            rows.setdefault(row.expert, {})[row.part] = digest
        else:
            trunk.append(f"{name} {digest}")
    experts = range(max(*parts, *rows) + 1)
    joined = (
        {layer: join_digests(lines) for layer, lines in parts.get(expert, {}).items()} for expert in experts
    )
    return Digests(join_digests(trunk), tuple(joined), tuple(rows.get(expert, {}) for expert in experts))


def join_digests(lines: Iterable[str]) -> str:
    """One digest of several lines, in their order."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
