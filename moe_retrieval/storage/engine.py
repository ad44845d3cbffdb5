"""Lance, LanceDB and FAISS, imported in one place; what they raise becomes an error of the store.

The engine raises errors whose text holds paths of its own source files; a user gets a sentence, a next step,
and none of those paths. What reads or adds goes through `lance` (pylance), because
importing `lancedb` takes a second or more; what replaces or removes rows goes through `lancedb`. Both carry
the same Lance core, and write the same files.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import sys
import threading
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import (
    StoreConflictError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
)
from moe_retrieval.storage.places.object_faults import is_object_fault, object_fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

_ENGINE_PLACE = re.compile(r",?\s*\S*\.rs:\d+(:\d+)?")
_FAISS_PLACE = re.compile(r"Error in .*? at \S+\.(cpp|h):\d+: (Error: '.*?' failed: ?)?")
_RAISED_INSIDE = re.compile(r"External error: (\w+)")
"""The name of a Python exception that was raised in what the engine called."""

_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("full", ("no space left", "os error 28", "os error 122", "file too large", "os error 27")),
    (
        "read-only",
        ("permission denied", "read-only file system", "os error 1)", "os error 13", "os error 30"),
    ),
    ("disk", ("os error 5)", "input/output error")),
    ("conflict", ("commit conflict", "incompatible transaction", "ambiguous merge")),
    (
        "corrupt",
        (
            "not found",
            "does not exist",
            "corrupt",
            "fill whole buffer",
            "invalid range",
            "range end index",
            "range start",
            "magic",
            "unexpected end",
            "decod",
            "checksum",
            "os error 2)",
            "out of range",
            "out of bounds",
            "protobuf",
            "file size is too small",
            "panicked",
            "utf-8",
            "ioerror",
            "lance error: io",
            "external error",
            "encountered internal error",
        ),
    ),
)


def lance() -> Any:
    """The pylance module, its log kept off stderr."""
    os.environ.setdefault("LANCE_LOG", "error")
    import lance as module

    return module


def faiss() -> Any:
    """The FAISS module, of whichever package brought it (faiss-cpu or faiss-gpu)."""
    import faiss as module

    return module


def connect(folder: Path) -> Any:
    """A LanceDB connection whose reads are up to date (the default handle is a snapshot).

    The path is absolute: a relative one that begins with "db" would be taken for a cloud address.
    """
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb

    return lancedb.connect(str(folder.resolve()), read_consistency_interval=timedelta(0))


def prepare_writing() -> None:
    """Import Lance beside other work: a run that will write loads its encoder meanwhile."""
    if "lance" not in sys.modules:
        _import_aside("lance")


def prepare_searching() -> None:
    """Import Lance and FAISS beside other work: the first query loads its encoder meanwhile."""
    prepare_writing()
    prepare_indexing()


@cache
def prepare_indexing() -> None:
    """Import FAISS beside other work, once: a run that encodes rows indexes them at its end."""
    if "faiss" not in sys.modules and importlib.util.find_spec("faiss") is not None:
        _import_aside("faiss")


def prepare_replacing() -> None:
    """Import LanceDB beside other work: new rows are encoded before they replace any."""
    if "lancedb" not in sys.modules:
        _import_aside("lancedb")


def _import_aside(name: str) -> None:
    os.environ.setdefault("LANCE_LOG", "error")
    threading.Thread(target=importlib.import_module, args=(name,), daemon=True).start()


@contextlib.contextmanager
def engine_faults(doing: str) -> Iterator[None]:
    """Turn an engine failure inside the block into a StoreError; `doing` completes "could not ...".

    Ctrl-C that comes while the engine reads leaves it as one of its failures; here it is Ctrl-C again.
    """
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise _interruption(error) or classify(error, doing=doing) from error


def _interruption(error: Exception) -> KeyboardInterrupt | None:
    """What a signal's handler raised inside the engine, which names it and no more."""
    found = _RAISED_INSIDE.search(str(error))
    kinds: list[type[KeyboardInterrupt]] = [KeyboardInterrupt, *KeyboardInterrupt.__subclasses__()]
    return next((kind() for kind in kinds if found and found[1] == kind.__name__), None)


def batches_of(
    dataset: Any, *, columns: list[str] | None, doing: str, **options: Any
) -> Iterator[pa.RecordBatch]:
    """The batches of a dataset. Its failures are the store's, those of the reader of the batches its own."""
    with engine_faults(doing):
        batches = iter(dataset.to_batches(columns=columns, **options))
    while True:
        with engine_faults(doing):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def classify(error: Exception, *, doing: str) -> StoreError:
    """The typed error an engine failure stands for, told apart by words in its text (it has no codes)."""
    text = str(error).lower()
    kind = next((kind for kind, words in _KINDS if any(word in text for word in words)), "")
    if kind != "conflict" and is_object_fault(error):
        return object_fault(error, doing=doing)
    if kind == "full":
        hint = "free some space and run it again"
        return StoreFullError(f"could not {doing}: the disk is full", hint=hint)
    if kind == "read-only":
        hint = "check who owns the store's folder"
        return StoreReadOnlyError(f"could not {doing}: permission denied", hint=hint)
    if kind == "disk":
        hint = "check the disk and run it again"
        return StoreError(f"could not {doing}: input/output error", hint=hint)
    if kind == "conflict":
        hint = "run it again"
        return StoreConflictError(f"could not {doing}: another writer got in between", hint=hint)
    if kind == "corrupt":
        hint = "restore the store from a copy, or delete it and index again"
        return StoreCorruptError(f"could not {doing}: {plain(error)}", hint=hint)
    return StoreError(f"could not {doing}: {plain(error)}", hint="run it again; if it stays, index anew")


def plain(error: Exception) -> str:
    """The engine's own words without the places in its source, at most 200 characters."""
    text = _FAISS_PLACE.sub("", _ENGINE_PLACE.sub("", " ".join(str(error).split())))
    text = text.removeprefix("lance error: ").strip(" ,.:")
    return text if len(text) <= 200 else text[:197] + "..."
