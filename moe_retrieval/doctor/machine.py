"""Examine the machine: versions, device, packages, weights, settings."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from typing import TYPE_CHECKING

from moe_retrieval.doctor.findings import Finding
from moe_retrieval.errors import MoeretError
from moe_retrieval.types import Precision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.settings import Resolved, Settings

PACKAGES = ("torch", "transformers", "lancedb", "pylance", "pyarrow", "tokenizers", "scikit-learn")
ENGINES = ("openvino", "onnxruntime")
FAISS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-gpu-cuvs")


def examine_machine(resolved: Resolved) -> Iterator[Finding]:
    """Findings in the order: machine, packages, weights, settings."""
    yield from _machine(resolved.values)
    yield from _packages()
    yield _faiss()
    yield from _weights(resolved.values)
    yield from _settings(resolved)


def _machine(settings: Settings) -> Iterator[Finding]:
    from moe_retrieval.engines.choice import choose_engine
    from moe_retrieval.engines.precision import pick_device, resolve_precision

    device = pick_device(settings.device or None)
    precision = resolve_precision(Precision.AUTO, device=device)
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    engine = choose_engine(settings.engine, device=device, precision=precision, learned=False)
    yield Finding("ok", "device", f"{device}, computes in {precision} by {engine}")


def _packages() -> Iterator[Finding]:
    for name in (*PACKAGES, *filter(_installed, ENGINES)):
        try:
            yield Finding("ok", name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("failed", name, "not installed", f"pip install {name}")


def _faiss() -> Finding:
    found = [name for name in FAISS if _installed(name)]
    if len(found) > 1:
        cure = f"pip uninstall {' '.join(found)}, then install one of moeret[cpu], moeret[gpu]"
        return Finding(
            "failed", "faiss", f"provided by {len(found)} packages at once: {', '.join(found)}", cure
        )
    if not found and importlib.util.find_spec("faiss") is None:
        cure = "pip install 'moeret[cpu]'"
        return Finding("warning", "faiss", "not installed; LanceDB's own search serves, more slowly", cure)
    shown = (
        f"{found[0]} {importlib.metadata.version(found[0])}" if found else "installed, by an unknown package"
    )
    return Finding("ok", "faiss", shown)


def _weights(settings: Settings) -> Iterator[Finding]:
    from moe_retrieval.encoder import Encoder

    try:
        identity = Encoder.load(settings.model or None).model_identity()
    except MoeretError as error:
        yield Finding("failed", "weights", error.message, error.hint)
        return
    yield Finding("ok", "weights", f"{identity['name']}, trunk {identity['trunk'][:12]}, checked")


def _settings(resolved: Resolved) -> Iterator[Finding]:
    for name, origin in resolved.origins.items():
        if origin != "default":
            yield Finding("ok", "setting", f"{name} = {getattr(resolved.values, name)!s} (from {origin})")
    if all(origin == "default" for origin in resolved.origins.values()):
        yield Finding("ok", "settings", "all at their defaults")


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
