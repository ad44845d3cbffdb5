"""Exported graphs on disk: one per expert, what they share stored once, every file checked when read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.hashing import verified_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_BLOCK = 4_096
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Graph:
    """An exported graph in memory: its description, and its weights as bytes (uint8)."""

    text: bytes
    weights: NDArray[np.uint8]


class GraphCache:
    """Graphs of one model, made by one version of one exporter, by the name of their expert.

    Experts of a model differ in some ranges of their weights only: the first one's are stored whole, those of
    the others as the ranges that differ. A manifest, written last, holds the sha256 of what it describes,
    and its own; what does not match is as good as absent. Any number of processes may read and write.
    """

    def __init__(self, root: Path | None, *, names: Sequence[str]) -> None:
        said = json.dumps([_FORMAT, *names])
        key = hashlib.sha256(said.encode()).hexdigest()[:24]
        self.folder = self._writable(root, key)

    def _writable(self, root: Path | None, key: str) -> Path:
        """The cache's folder; one that lasts as long as this object where that cannot be written."""
        try:
            folder = (root or _default()) / key
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            scratch = tempfile.mkdtemp(prefix="moeret-graphs-")
            weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
            return Path(scratch)

    def get(self, name: str, export: Callable[[], Graph]) -> Graph:
        """The graph of this name, read, or exported and stored."""
        found = self._read(name)
        if found is None:
            found = export()
            self._write(name, found)
        return found

    def _read(self, name: str) -> Graph | None:
        try:
            check, _, manifest = (self.folder / f"{name}.json").read_bytes().partition(b"\n")
            if check.decode() != _sha(manifest):
                return None
            said = json.loads(manifest)
            text = (self.folder / f"{name}.graph").read_bytes()
            whole, delta = self.folder / f"{said['base']}.weights", self.folder / f"{name}.delta"
            # mapped, not read: the copy is what takes the time; what is patched becomes a page of our own
            weights: NDArray[np.uint8] = np.memmap(whole, np.uint8, mode="c")
            sound = _sha(text) == said["text"] and verified_sha256(whole) == said["whole"]
            if said["ranges"]:
                sound = sound and verified_sha256(delta) == said["delta"]
                weights = _patched(weights, np.fromfile(delta, np.uint8), said["ranges"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Graph(text, weights) if sound else None

    def _write(self, name: str, graph: Graph) -> None:
        base = self._base(size=len(graph.weights))
        said: dict[str, Any] = {"base": base or name, "ranges": [], "text": _sha(graph.text)}
        if base is None:
            self._put(f"{name}.weights", graph.weights.tobytes())
            said["whole"] = _sha(graph.weights.data)
        else:
            whole = np.fromfile(self.folder / f"{base}.weights", np.uint8)
            said["ranges"] = _different(whole, graph.weights)
            delta = b"".join(graph.weights[a:b].tobytes() for a, b in said["ranges"])
            self._put(f"{name}.delta", delta)
            said |= {"whole": _sha(whole.data), "delta": _sha(delta)}
        self._put(f"{name}.graph", graph.text)
        manifest = json.dumps(said).encode()
        self._put(f"{name}.json", _sha(manifest).encode() + b"\n" + manifest)

    def _base(self, *, size: int) -> str | None:
        """A graph that is stored whole, sound, and as large: its layout is that of every expert."""
        for place in sorted(self.folder.glob("*.weights")):
            if place.stat().st_size == size and self._read(place.stem) is not None:
                return place.stem
        return None

    def _put(self, name: str, data: bytes) -> None:
        fresh = self.folder / f".{name}.{os.getpid()}.{threading.get_ident()}"
        fresh.write_bytes(data)
        fresh.replace(self.folder / name)


def _default() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("moeret") / "graphs"


def _different(base: NDArray[np.uint8], other: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Ranges in which two arrays of one size differ, in whole blocks."""
    size = len(base)
    starts = np.arange(0, size, _BLOCK)
    unequal = np.logical_or.reduceat(base != other, starts) if size else np.zeros(0, bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], unequal, [False]])))
    return [(int(a) * _BLOCK, min(int(b) * _BLOCK, size)) for a, b in edges.reshape(-1, 2)]


def _patched(base: NDArray[np.uint8], delta: NDArray[np.uint8], ranges: list[Any]) -> NDArray[np.uint8]:
    at = 0
    for start, stop in ranges:
        base[start:stop] = delta[at : at + stop - start]
        at += stop - start
    return base


def _sha(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()
