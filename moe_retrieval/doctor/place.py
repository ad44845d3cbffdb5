"""Examine where a store lies: kind of file system, space left, who writes to it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from moe_retrieval.doctor.findings import Finding
from moe_retrieval.storage.places.filesystem import NEXT_STEP, network_warning
from moe_retrieval.storage.places.folder import Folder
from moe_retrieval.storage.places.holder import holder_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.storage.store import Store

_TIGHT, _SHARE = 1 << 30, 0.05
"""Less space than this many bytes and this share of the disk is worth a warning."""


def examine_place(store: Store) -> Iterator[Finding]:
    """Findings about the disk and the writer lease."""
    if isinstance(store.place, Folder):
        if warning := network_warning(store.path):
            yield Finding("warning", "file system", warning, NEXT_STEP)
        yield _space(store)
    yield _lease(store)


def _space(store: Store) -> Finding:
    disk = shutil.disk_usage(store.path)
    message = f"{disk.free / 1e9:,.1f} GB free of {disk.total / 1e9:,.1f} GB"
    if disk.free < _TIGHT and disk.free < _SHARE * disk.total:
        cure = "free some space (moeret gc lets old generations go): a reindex writes a table anew"
        return Finding("warning", "disk", message, cure)
    return Finding("ok", "disk", message)


def _lease(store: Store) -> Finding:
    found = holder_of(store.place)
    if found is None:
        return Finding("ok", "writer lease", "free; nobody has signed it")
    if found.held:
        return Finding("ok", "writer lease", f"held by {found.who}")
    if found.held is None and not found.gone:
        return Finding("ok", "writer lease", f"held, or held last, by {found.who}")
    ended = "a process that is gone" if found.gone else "a process that let go of it"
    return Finding("ok", "writer lease", f"free; last held by {ended}: {found.who}")
