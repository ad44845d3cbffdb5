"""Examine the files that documents came from: gone, changed, or as they were indexed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from moe_retrieval.corpus.readers import read_corpus
from moe_retrieval.doctor.findings import Finding
from moe_retrieval.errors import MoeretError
from moe_retrieval.hashing import content_hash, document_key, homes_in
from moe_retrieval.types import Document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.view import TableView


class _Stored(NamedTuple):
    """The files a domain's documents came from; if asked for, the content hash of each document by key."""

    files: list[str]
    hashes: dict[int, int]


def examine_sources(store: Store, live: Generation, *, again: bool) -> Iterator[Finding]:
    """One finding per domain whose files are gone, or, when they are read `again`, have changed."""
    files = gone = 0
    for domain, entry in live.domains.items():
        try:
            stored = _stored(store.view(entry), again=again)
        except MoeretError:
            continue  # the table's own finding says so
        lost = [name for name in stored.files if not Path(name).exists()]
        files, gone = files + len(stored.files), gone + len(lost)
        if lost:
            message = f"{len(lost):,} of {len(stored.files):,} source files are gone, such as {lost[0]}"
            cure = "moeret index --prune with the paths indexed before takes their documents out"
            yield Finding("warning", f"domain {domain}", message, cure)
        if again:
            yield from _changed(domain, entry, stored)
    if not gone:
        yield Finding("ok", "sources", f"{files:,} source files, all there")


def _changed(domain: str, entry: DomainEntry, stored: _Stored) -> Iterator[Finding]:
    """Read the files again and compare: by content, as `moeret index` does."""
    same = changed = new = 0
    first = ""
    there = [name for name in stored.files if Path(name).exists()]
    for item in read_corpus(there, domain=domain, missing_ok=True) if there else ():
        if not isinstance(item, Document):
            continue
        known = stored.hashes.get(document_key(item.source, item.id))
        if known is not None and homes_in(known, content_hash(item, chunking=entry.chunking)):
            same += 1
            continue
        changed, new, first = changed + (known is not None), new + (known is None), first or item.source
    if changed or new:
        message = f"{changed:,} documents changed and {new:,} are new in the source files, such as in {first}"
        yield Finding("warning", f"domain {domain}", message, "moeret index with the paths indexed before")
    elif there:
        yield Finding("ok", f"domain {domain}", f"{same:,} documents are as in their source files")


def _stored(view: TableView, *, again: bool) -> _Stored:
    """Sources that are no path (standard input, a caller's own names) are left out."""
    sources: set[str] = set()
    hashes: dict[int, int] = {}
    for batch in view.batches(["source", "doc_key", "doc_hash"] if again else ["source"]):
        sources.update(batch["source"].unique().to_pylist())
        if again:
            keys, first = np.unique(batch["doc_key"].to_numpy(), return_index=True)
            hashes.update(zip(keys.tolist(), batch["doc_hash"].to_numpy()[first].tolist(), strict=True))
    return _Stored(sorted(name for name in sources if Path(name).is_absolute()), hashes)
