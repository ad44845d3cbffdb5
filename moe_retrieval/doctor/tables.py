"""Examine one domain: its table at the pinned version, its text index, its vector index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_retrieval.doctor.findings import Finding
from moe_retrieval.errors import MoeretError
from moe_retrieval.storage.index import faiss_installed, index_info
from moe_retrieval.storage.indexes import sidecar
from moe_retrieval.storage.indexes.shared import bring_descriptions
from moe_retrieval.storage.lookup import distinct
from moe_retrieval.storage.maintenance.health import health_of, wrong_files
from moe_retrieval.storage.maintenance.stock import INDEXES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.view import TableView

MANY_FRAGMENTS = 200
LONG_TAIL, LONG_SHARE = 20_000, 0.1
"""More rows than this many and than this share of a table without an index are worth a warning."""
REPAIR = "moeret doctor --repair"


def examine_domain(store: Store, domain: str, entry: DomainEntry) -> Iterator[Finding]:
    """Findings about a domain: one if all is well, else one per thing that is not."""
    subject = f"domain {domain}"
    problems = [*_table(store, domain, entry)]
    if not any(one.failed for one in problems):
        problems += _vector_index(store, domain, entry)
    yield from problems
    if not problems:
        yield Finding("ok", subject, f"{entry.rows:,} chunks, all there, and their digest holds")


def _table(store: Store, domain: str, entry: DomainEntry) -> Iterator[Finding]:
    subject = f"domain {domain}"
    wrong = [*wrong_files(store.place, entry)]
    for name, problem in wrong:
        yield _wrong_file(name, problem, domain=domain)
    try:
        view = store.view(entry)
        if view.digest() != entry.digest:
            yield Finding("failed", subject, "its rows are not those that were published", _restore(domain))
        elif not wrong:
            yield from _upkeep(view, subject)
    except MoeretError as error:
        yield Finding("failed", subject, error.message, _restore(domain))


def _wrong_file(name: str, problem: str, *, domain: str) -> Finding:
    derived = "/_indices/" in name or name.startswith("catalog/sums/")
    cure = REPAIR if derived else _restore(domain)
    return Finding("failed", f"domain {domain}", f"{name} {problem}", cure)


def _upkeep(view: TableView, subject: str) -> Iterator[Finding]:
    if twins := view.rows - len(distinct(view.key_vh()[0])):
        cure = "moeret index PATH: each run takes them out, whatever it reads"
        yield Finding("warning", subject, f"{twins:,} chunks stand twice", cure)
    health = health_of(view)
    if not health.text_indexed and view.rows:
        yield Finding("warning", subject, "has no text index: text is searched slowly", REPAIR)
    elif is_long(health.text_tail, view.rows):
        message = f"{health.text_tail:,} chunks are not in the text index yet"
        yield Finding("warning", subject, message, f"{REPAIR}, or the next moeret index that changes it")
    if health.fragments > MANY_FRAGMENTS:
        message = f"its table is in {health.fragments:,} fragments: reading is slow"
        yield Finding("warning", subject, message, f"{REPAIR}, or the next moeret index that changes it")


def _vector_index(store: Store, domain: str, entry: DomainEntry) -> Iterator[Finding]:
    subject = f"domain {domain}"
    if not entry.rows or not faiss_installed():
        return
    bring_descriptions(store.place)
    info = index_info(store.indexes_dir, entry)
    if info is None:
        yield Finding("warning", subject, "has no vector index: the next query may build one", REPAIR)
        return
    for problem in index_problems(store, entry):
        yield Finding("warning", subject, f"{problem}: it is not searched, and built again", REPAIR)
    if is_long(info.tail, entry.rows):
        message = f"{info.tail:,} chunks are not in the vector index yet"
        yield Finding("warning", subject, message, f"{REPAIR}, or the next moeret index")


def index_problems(store: Store, entry: DomainEntry) -> Iterator[str]:
    """What is wrong with the index files of exactly this content, as far as their sizes tell."""
    present = set(store.place.names(INDEXES))
    for one in sidecar.read_all(store.indexes_dir):
        if one.digest != entry.digest or one.table != entry.table:
            continue
        if one.rows != entry.rows:
            yield f"the index {one.name} holds {one.rows:,} of {entry.rows:,} chunks"
        for name in (f"{one.name}{suffix}" for suffix in one.files):
            if name not in present:
                yield f"{INDEXES}/{name} is missing"
            elif (
                name.endswith(sidecar.INDEX) and (size := store.place.size(f"{INDEXES}/{name}")) != one.bytes
            ):
                yield f"{INDEXES}/{name} has {size} bytes, {one.bytes} were written"


def is_long(tail: int, rows: int) -> bool:
    """Whether so many rows outside an index are worth a word."""
    return tail > LONG_TAIL or (tail > LONG_SHARE * rows and tail > 1_000)


def _restore(domain: str) -> str:
    return f"restore the store from a copy, go back (moeret rollback), or index {domain} anew"
