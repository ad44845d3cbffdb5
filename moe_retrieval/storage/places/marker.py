"""What makes a place a store: its marker and secret; how one begins, and how one is recognised."""

from __future__ import annotations

import json
import secrets
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.errors import NothingFoundError, StoreCorruptError, StoreVersionError, UsageError
from moe_retrieval.storage.places.folder import Folder
from moe_retrieval.storage.places.place import MARKER, SECRET, TABLES, is_url

if TYPE_CHECKING:
    from moe_retrieval.storage.places.place import Place

FORMAT = 1
"""Of the folder's layout. What a generation file holds has a format of its own (`catalog.FORMAT`)."""

PROGRESS = "progress"
_FOLDERS = ("catalog", TABLES, "experts", "routers", "indexes")
_OURS = {MARKER, SECRET, "lock", PROGRESS, "readers", *_FOLDERS}


def place_of(path: str | Path, *, durable: bool = True, cache: Path | None = None) -> Place:
    """The place that a path or URL names; nothing is read or made."""
    if is_url(path):
        from moe_retrieval.storage.places.bucket import Bucket

        return Bucket.open(str(path), cache=cache)
    return Folder(Path(path).expanduser().resolve(), durable=durable)


def make_store(place: Place) -> None:
    """Begin a store where there is none; one that was begun and not finished is completed."""
    if _present(place) and SECRET in place.names(""):
        return
    for name in ("", *_FOLDERS):
        (place.local / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    place.put_if_absent(SECRET, secrets.token_bytes(32))
    # The marker comes last: where it is, the rest is.
    place.put_if_absent(MARKER, json.dumps({"format": FORMAT, "id": uuid.uuid4().hex}).encode())


def check_store(place: Place) -> None:
    """Refuse a place that holds no store, or one of a newer format."""
    if not _present(place):
        hint = f"moeret index PATH --store {place.name}"
        raise NothingFoundError(f"there is no store at {place.name}", hint=hint)
    try:
        written = int(json.loads(place.read(MARKER))["format"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreCorruptError(
            f"{place.name}/{MARKER} is damaged", hint="restore it from a copy of the store"
        ) from error
    if written > FORMAT:
        raise StoreVersionError(
            f"{place.name} has format {written}, this moeret reads up to {FORMAT}", hint="upgrade moeret"
        )


def _present(place: Place) -> bool:
    """Whether there is a store; a folder of other things is refused, one half created is not."""
    names = set(place.names(""))
    if isinstance(place, Folder) and place.local.exists() and not place.local.is_dir():
        raise UsageError(f"{place.name} is a file, not a store folder", hint="give --store a folder")
    if MARKER in names:
        return True
    if names - _OURS and not all(name.startswith(".") and name.endswith(".tmp") for name in names - _OURS):
        hint = "give --store a new or empty folder"
        raise UsageError(f"{place.name} is not empty and is no store", hint=hint)
    if any(name.startswith("gen-") for name in place.names("catalog")):
        hint = "restore it from a copy of the store"
        raise StoreCorruptError(f"{place.name}/{MARKER} is missing", hint=hint)
    return False
