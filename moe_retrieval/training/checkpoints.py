"""Checkpoints of a training: which one is whole, and what to say when none can be written."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from moe_retrieval.errors import StoreFullError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SEAL = "files.json"
_TORCH_CANNOT = ("PytorchStreamWriter", "inline_container", "iostream")
"""Of what torch speaks when it could not write a file; the error of the disk is lost."""

_NAME = re.compile(r"checkpoint-(\d+)")


def seal(checkpoint: Path) -> None:
    """Note what a checkpoint consists of, once all of it is written."""
    sizes = {path.name: path.stat().st_size for path in sorted(checkpoint.iterdir()) if path.name != _SEAL}
    fresh = checkpoint / f".{_SEAL}"
    fresh.write_text(json.dumps(sizes), "utf-8")
    fresh.replace(checkpoint / _SEAL)


def last_whole(folder: Path) -> Path | None:
    """The last checkpoint of a folder that was written to its end; None: there is none."""
    return max((path for path in _checkpoints(folder) if _is_whole(path)), key=_step, default=None)


def remove_torn(folder: Path) -> None:
    """Remove checkpoints that a kill cut short."""
    for path in _checkpoints(folder):
        if not _is_whole(path):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """Say of what fails in the block that there is no writing to `folder`.

    Raises:
        StoreFullError: it failed.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in _TORCH_CANNOT):
            raise
        raise StoreFullError(
            f"a checkpoint could not be written to {folder}: {error}",
            hint="make room there, and run it again: it goes on from the last checkpoint",
        ) from error


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)]


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _is_whole(checkpoint: Path) -> bool:
    try:
        sizes = json.loads((checkpoint / _SEAL).read_text("utf-8"))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False
