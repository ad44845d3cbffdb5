"""How many chunks a reindex encodes, how long that takes and how much it writes; nothing is changed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.storage.lookup import distinct, places
from moe_retrieval.storage.tables.rows import CONTENT
from moe_retrieval.storage.tables.table_files import files_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.retrieval.rebuilding.embedded import Embedded
    from moe_retrieval.retrieval.rebuilding.plan import DomainPlan
    from moe_retrieval.retrieval.rebuilding.rechunk import Rereading
    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table
    from moe_retrieval.storage.tables.view import TableView

TIMED = (8, 16, 40)
"""Chunks that are encoded, in steps, to learn how fast that is; it ends early where it is slow."""

ENOUGH = 1.0
"""Seconds after which no further step is taken."""

RECUT = 500
"""Documents that are cut anew to learn how many chunks come of them; of more, the rest is like these."""


def counted(
    plan: DomainPlan, view: TableView, *, unfinished: Table | None, embedded: Embedded | None
) -> DomainPlan:
    """The plan of a domain that keeps its chunks, with those that need not be encoded: a killed run wrote
    them, or a table that is still there holds their texts' vectors.
    """
    done, documents, hashes = _written(unfinished)
    reuse = 0
    for batch in view.batches(("key", "doc_key", "doc_hash", CONTENT)):
        there = places(batch["key"].to_numpy(), among=done) >= 0
        if len(documents):  # what it holds of another content is written again
            at = places(batch["doc_key"].to_numpy(), among=documents)
            there &= (at >= 0) & (hashes[at] == batch["doc_hash"].to_numpy())
        if embedded is not None:
            there |= embedded.holds(batch[CONTENT].to_pylist())
        reuse += int(there.sum())
    return replace(plan, encode=plan.rows - reuse, reuse=reuse)


def recut(plan: DomainPlan, reading: Rereading, *, embedded: Embedded | None) -> DomainPlan:
    """The plan of a domain that is cut anew, from the first documents that can be read again."""
    contents: list[str] = []
    replaced = taken = 0
    for one in itertools.islice(reading.documents(), RECUT):
        contents += [chunk.content for chunk in reading.chunker.chunk(one.document)]
        replaced += one.parts
        taken += 1
    known = int(embedded.holds(contents).sum()) if embedded else 0
    times = plan.rows / replaced if taken == RECUT else 1.0
    kept = plan.rows - replaced if taken < RECUT else 0
    encode, reuse = round((len(contents) - known) * times), round(known * times)
    if embedded is None:
        return replace(plan, encode=encode + kept, reuse=reuse)
    return replace(plan, encode=encode, reuse=reuse + kept)


def measured(
    plan: DomainPlan, entry: DomainEntry, *, store: Store, encoder: Encoder, clock: Callable[[], float]
) -> DomainPlan:
    """The plan with seconds, from a timed encoding of a few of its chunks, and bytes, from what the live
    table's files take per row.
    """
    view = store.view(entry)
    files = files_of(store.place, entry.table, view.dataset)
    size = sum(store.place.size(one.name) if one.size is None else one.size for one in files)
    per_row = size / max(entry.rows, 1) + 4 * (encoder.dim - view.dim)
    each = _seconds_each(plan, view, encoder=encoder, clock=clock) if plan.encode and entry.rows else 0.0
    return replace(
        plan, seconds=round(plan.encode * each, 1), bytes=round((plan.encode + plan.reuse) * per_row)
    )


def _seconds_each(
    plan: DomainPlan, view: TableView, *, encoder: Encoder, clock: Callable[[], float]
) -> float:
    wanted = min(sum(TIMED), view.rows)
    offsets = np.random.default_rng(0).choice(view.rows, size=wanted, replace=False)
    texts = view.take(offsets, columns=[CONTENT])[CONTENT].to_pylist()
    encoder.encode_document(texts[:1], domain=plan.domain)  # the first text loads the weights
    begun, done = clock(), 0
    for size in TIMED:
        encoder.encode_document(texts[done : done + size], domain=plan.domain)
        done = min(done + size, wanted)
        if done == wanted or clock() - begun > ENOUGH:
            break
    return (clock() - begun) / done


def _written(table: Table | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys (int64, ascending) of the rows of a table, those of its documents, and their content hashes."""
    if table is None:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, nothing
    stored = table.documents()
    return distinct(table.keys()), stored.keys, stored.hashes
