"""Expert packs: one domain's expert in a folder `<sha256>/`, with a card that says what it fits."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import ChecksumError, ModelError, ModelMismatchError
from moe_retrieval.hashing import file_sha256, verified_sha256
from moe_retrieval.model.weights import (
    Digests,
    RawTensor,
    digests_of_files,
    feed_forward_name,
    join_digests,
    read_metadata,
    read_tensors,
    row_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from moe_retrieval.model.source import ModelSource

WEIGHTS = "expert.safetensors"
CARD = "card.json"
_WORDS = "moeret_words"


@dataclass(frozen=True, slots=True)
class Card:
    """What a pack says of itself. `trunk`: digest of what the expert builds on; `notes`: free."""

    expert: str
    base: str
    trunk: str
    layers: tuple[int, ...]
    notes: Mapping[str, Any]
    format: int = 1


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack whose bytes have been checked against the sha256 that its folder promises."""

    folder: Path
    sha: str
    card: Card

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    def tensors(self) -> dict[str, RawTensor]:
        """Tensors by their dense names (`encoder.layer.3.output.dense.bias`)."""
        return read_tensors([self.weights])

    @property
    def words(self) -> tuple[str, ...]:
        """Words that are one token for this expert alone, in the order of their embeddings."""
        return tuple(json.loads(read_metadata(self.weights).get(_WORDS, "[]")))

    def digests(self, base: Digests) -> tuple[Mapping[int, str], Mapping[str, str]]:
        """Digests of the expert's layers and of its own embeddings; a low-rank layer's includes general's."""
        tensors = self.tensors()
        own = digests_of_files([self.weights])
        deltas = {
            place.layer for place in map(feed_forward_name, tensors) if place and place.part.endswith(".up")
        }
        layers = {
            layer: join_digests([base.feed_forward[0][layer], digest]) if layer in deltas else digest
            for layer, digest in own.feed_forward[0].items()
        }
        return layers, own.rows[0]

    def said(self, name: str, source: ModelSource) -> dict[str, Any]:
        """Arguments of a configuration of `source` that has this expert alone, under a name."""
        tensors, words, roster = self.tensors(), self.words, source.roster
        grown = any(place.part.startswith("growth") for place in map(feed_forward_name, tensors) if place)
        general = roster.experts[0]
        return {
            "experts": [name],
            "routing": roster.routing,
            "gated": [name] if grown or general in roster.gated else [],
            "domain_tokens": [name] if "token" in tensors or general in roster.domain_tokens else [],
            "vocabulary": {name: list(words)} if words else {},
        }


def write_pack(
    tensors: Mapping[str, RawTensor], folder: Path, *, card: Card, words: Sequence[str] = ()
) -> str:
    """Write `<folder>/<sha>/`, whole or not at all; returns the sha, the same for the same contents."""
    data = pack_bytes(tensors, words=words)
    sha = hashlib.sha256(data).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        _write_durably(fresh / WEIGHTS, data)
        _write_durably(fresh / CARD, json.dumps(asdict(card), indent=2, sort_keys=True).encode())
        _put_in_place(fresh, folder / sha)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return sha


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _put_in_place(fresh: Path, place: Path) -> None:
    if (place / WEIGHTS).is_file() and file_sha256(place / WEIGHTS) == place.name:
        (fresh / CARD).replace(place / CARD)  # the same weights are there: only the card is new
        return
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)


def pack_bytes(tensors: Mapping[str, RawTensor], *, words: Sequence[str] = ()) -> bytes:
    """The bytes of a pack's weights file: safetensors, written here so that they never change."""
    notes = {_WORDS: json.dumps(list(words))} if words else {}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **notes}}
    at = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        ends = [at, at + tensor.data.nbytes]
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": ends}
        at = ends[1]
    said = json.dumps(header, separators=(",", ":")).encode()
    padded = said + b" " * (-len(said) % 8)
    return b"".join(
        [len(padded).to_bytes(8, "little"), padded, *(tensors[name].data for name in sorted(tensors))]
    )


def pack_sha(tensors: Mapping[str, RawTensor], *, words: Sequence[str] = ()) -> str:
    """The name that a pack of these tensors would have."""
    return hashlib.sha256(pack_bytes(tensors, words=words)).hexdigest()


def select_expert(tensors: Mapping[str, RawTensor], expert: int) -> dict[str, RawTensor]:
    """The tensors of one expert, by the names they have in a pack.

    Of a low-rank expert only the deltas: the weights below them are general's.
    """
    chosen: dict[str, RawTensor] = {}
    for name, tensor in tensors.items():
        place, row = feed_forward_name(name), row_name(name)
        if place is not None and place.expert == expert:
            chosen[place.dense] = tensor
        elif row is not None and row.expert == expert:
            chosen[row.part] = tensor
    stems = {name.removesuffix(".up") for name in chosen if name.endswith(".up")}
    below = {f"{stem}.{part}" for stem in stems for part in ("weight", "bias")}
    return {name: tensor for name, tensor in chosen.items() if name not in below}


def is_low_rank(names: Iterable[str]) -> bool:
    """Whether tensors of these names are deltas to general's weights."""
    return any(name.endswith(".up") for name in names)


def open_pack(folder: Path) -> Pack:
    """A pack, its card read and its bytes checked.

    Raises:
        ModelError: a file is missing or damaged.
        ChecksumError: the weights are not those the folder's name promises.
    """
    card, promised = _read_card(folder)
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"the expert pack {folder} has no {WEIGHTS}", hint="copy the whole folder again")
    sha = verified_sha256(folder / WEIGHTS)
    if sha != promised:
        raise ChecksumError(
            f"{folder / WEIGHTS} has sha256 {sha[:12]}, but {promised[:12]} was promised",
            hint="the file was changed or damaged; copy the pack again from where it was trained",
        )
    return Pack(folder, sha, card)


def _read_card(folder: Path) -> tuple[Card, str]:
    """The card, and the sha256 that the folder's name promises."""
    path = folder / CARD
    promised = folder.name
    if not re.fullmatch(r"[0-9a-f]{64}", promised):
        raise ModelError(
            f"{folder} is not named by a sha256", hint="keep the name under which the pack was exported"
        )
    try:
        raw = json.loads(path.read_text("utf-8"))
        layers = tuple(int(layer) for layer in raw["layers"])
        card = Card(
            str(raw["expert"]),
            str(raw["base"]),
            str(raw["trunk"]),
            layers,
            dict(raw["notes"]),
            int(raw["format"]),
        )
    except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        raise ModelError(
            f"the card of the expert pack {folder} cannot be read: {error}", hint="copy the pack again"
        ) from error
    if card.format != 1:
        raise ModelError(
            f"{path} has format {card.format}, which is newer than this moeret", hint="update moeret"
        )
    return card, promised


def check_fit(pack: Pack, base: Digests, *, name: str) -> None:
    """Whether a pack was trained on this model.

    Raises:
        ModelMismatchError: it was trained on another trunk; both are named.
    """
    # a delta is worth nothing without the weights it is added to
    layers = () if is_low_rank(pack.tensors()) else pack.card.layers
    here = base.without(layers) if set(layers) <= set(base.layers) else base.trunk
    if here != pack.card.trunk:
        raise ModelMismatchError(
            f"expert {pack.card.expert!r} ({pack.sha[:12]}) was trained on {pack.card.base} "
            f"(trunk {pack.card.trunk[:12]}), "
            f"but the model is {name} (trunk {here[:12]})",
            hint="give the model it was trained on, or train the expert again",
        )
