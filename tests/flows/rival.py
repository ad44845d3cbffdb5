"""One of several processes that write to the same store.

    python -m tests.flows.rival STORE MODEL NAME COUNT [tables]

It upserts documents one at a time, ids that all rivals write and in turn one of its own, and says each on
standard output once it is acknowledged: id, text, and the generation that published it.
"""

from __future__ import annotations

import sys
from pathlib import Path

SHARED = 8
"""Ids that every rival writes."""


def document_id(name: str, turn: int) -> str:
    return f"own-{name}-{turn % 5}" if turn % 4 == 3 else f"shared-{turn % SHARED}"


def text_of(name: str, turn: int) -> str:
    return f"heart lung skin turn {turn} of writer {name}"


def acknowledge(doc: str, text: str, generation: int) -> None:
    sys.stdout.write(f"{doc}\t{text}\t{generation}\n")
    sys.stdout.flush()


def write_documents(store: Path, model: str, name: str, count: int) -> None:
    """Through the facade, as a program would that many users run: it waits for the lease."""
    from moe_retrieval import Document, Moeret
    from moe_retrieval.settings import load_settings

    with Moeret.open(store, settings=load_settings(model=model, lease_wait=600.0).values) as moeret:
        for turn in range(count):
            document = Document(document_id(name, turn), text_of(name, turn), source="/rivals")
            report = moeret.index_documents([document], domain="cvd")
            acknowledge(document.id, document.text, report.generation)


def write_rows(store: Path, name: str, count: int) -> None:
    """Into the table itself, past the lease: what protects then is Lance's own check of the key."""
    import numpy as np

    from moe_retrieval import Store
    from moe_retrieval.errors import StoreConflictError
    from moe_retrieval.hashing import document_key
    from moe_retrieval.storage.tables.rows import Row, to_batch
    from moe_retrieval.storage.tables.table import Table
    from moe_retrieval.types import Chunk

    table = Table(Store.open(store).place, name="d_cvd.g1")
    vector = np.eye(1, table.dim, dtype=np.float32)
    for turn in range(count):
        doc, text = document_id(name, turn), text_of(name, turn)
        chunk = Chunk(doc, source="/rivals", ordinal=0, start=0, end=len(text), text=text)
        batch = to_batch([Row(chunk, parts=1, doc_hash=turn, metadata={})], vector)
        while True:
            try:
                table.write(batch, replaces=np.array([document_key("/rivals", doc)], np.int64))
                break
            except StoreConflictError:
                continue  # as the message says: run it again
        acknowledge(doc, text, table.version)


if __name__ == "__main__":
    _, place, encoder, name, turns, *past_the_lease = sys.argv
    if past_the_lease:
        write_rows(Path(place), name, int(turns))
    else:
        write_documents(Path(place), encoder, name, int(turns))
