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
from moe_retrieval.hashing import file_sha256
from moe_retrieval.model.weights import Digests, RawTensor, digests_of, feed_forward_name, read_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHTS = "expert.safetensors"
CARD = "card.json"


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

    def layer_digests(self) -> Mapping[int, str]:
        return digests_of(self.tensors()).feed_forward[0]


def write_pack(tensors: Mapping[str, RawTensor], folder: Path, *, card: Card) -> str:
    """Write `<folder>/<sha>/`, whole or not at all; returns the sha, the same for the same tensors."""
    data = pack_bytes(tensors)
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


def pack_bytes(tensors: Mapping[str, RawTensor]) -> bytes:
    """The bytes of a pack's weights file: safetensors, written here so that they never change."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
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


def pack_sha(tensors: Mapping[str, RawTensor]) -> str:
    """The name that a pack of these tensors would have."""
    return hashlib.sha256(pack_bytes(tensors)).hexdigest()


def select_expert(tensors: Mapping[str, RawTensor], expert: int) -> dict[str, RawTensor]:
    """The feed-forward tensors of one expert, by their dense names."""
    places = ((feed_forward_name(name), tensor) for name, tensor in tensors.items())
    return {place.dense: tensor for place, tensor in places if place is not None and place.expert == expert}


def open_pack(folder: Path) -> Pack:
    """A pack, its card read and its bytes checked.

    Raises:
        ModelError: a file is missing or damaged.
        ChecksumError: the weights are not those the folder's name promises.
    """
    card, promised = _read_card(folder)
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"the expert pack {folder} has no {WEIGHTS}", hint="copy the whole folder again")
    sha = file_sha256(folder / WEIGHTS)
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
    layers = pack.card.layers
    here = base.without(layers) if set(layers) <= set(base.layers) else base.trunk
    if here != pack.card.trunk:
        raise ModelMismatchError(
            f"expert {pack.card.expert!r} ({pack.sha[:12]}) was trained on {pack.card.base} "
            f"(trunk {pack.card.trunk[:12]}), "
            f"but the model is {name} (trunk {here[:12]})",
            hint="give the model it was trained on, or train the expert again",
        )
