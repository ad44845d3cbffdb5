"""Examine an installation and a store: versions, device, weights, settings, tables; every finding names its
cure.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import MoeretError, NothingFoundError
from moe_retrieval.types import Precision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.moeret import Moeret
    from moe_retrieval.settings import Resolved, Settings
    from moe_retrieval.status import DomainStatus
    from moe_retrieval.storage.store import Store

PACKAGES = ("torch", "transformers", "lancedb", "pylance", "pyarrow", "tokenizers", "scikit-learn")
ENGINES = ("openvino", "onnxruntime")
FAISS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-gpu-cuvs")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `level` is ok, warning or failed."""

    level: str
    subject: str
    message: str
    cure: str = ""

    @property
    def failed(self) -> bool:
        return self.level == "failed"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(resolved: Resolved) -> list[Finding]:
    """All findings, in the order: machine, packages, weights, settings, store."""
    return [
        *_machine(resolved.values),
        *_packages(),
        _faiss(),
        *_weights(resolved.values),
        *_settings(resolved),
        *_store(resolved.values),
    ]


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


def _store(settings: Settings) -> Iterator[Finding]:
    from moe_retrieval.moeret import Moeret

    with Moeret.open(settings=settings) as moeret:
        try:
            status = moeret.status()
        except NothingFoundError as error:
            yield Finding("warning", "store", error.message, error.hint)
            return
        except MoeretError as error:
            yield Finding("failed", "store", error.message, error.hint)
            return
        shown = f"{status.store}, generation {status.generation}, {len(status.domains)} domains"
        yield Finding("ok", "store", shown)
        for domain in status.domains:
            yield _domain(moeret.store, domain)
        yield from _router_and_encoder(moeret)


def _domain(store: Store, status: DomainStatus) -> Finding:
    """Whether the table opens at its pinned version, holds what the catalog says, and has its index."""
    subject, live = f"domain {status.domain}", store.catalog.latest()
    entry = live.domains[status.domain] if live else None
    if entry is None:
        return Finding("warning", subject, "was removed while the doctor looked")
    cure = f"moeret reindex --force --domain {status.domain}, or restore the store from a copy"
    try:
        if store.view(entry).digest() != entry.digest:
            return Finding("failed", subject, "its rows are not those that were published", cure)
    except MoeretError as error:
        return Finding("failed", subject, error.message, error.hint)
    if status.candidate:
        return Finding(
            "warning", subject, "a trained expert waits", f"moeret reindex --domain {status.domain}"
        )
    if status.index is None and status.chunks:
        return Finding("warning", subject, "has no index file", "moeret index any of its files makes one")
    return Finding("ok", subject, f"{status.chunks:,} chunks, digest holds")


def _router_and_encoder(moeret: Moeret) -> Iterator[Finding]:
    from moe_retrieval.retrieval.routing import load_router

    try:
        load_router(moeret.store, moeret.store.catalog.latest())
    except MoeretError as error:
        yield Finding("failed", "router", error.message, "moeret index any file fits it again")
    try:
        moeret.encoder()
    except MoeretError as error:
        yield Finding("failed", "encoder", error.message, error.hint)


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
