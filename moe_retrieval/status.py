"""What a store holds now: its live generation, domain by domain."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import StoreError
from moe_retrieval.retrieval.candidates import candidate_experts, newcomers
from moe_retrieval.storage.index import index_info
from moe_retrieval.storage.indexes.shared import bring_descriptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.index import IndexInfo
    from moe_retrieval.storage.store import Store


@dataclass(frozen=True, slots=True)
class DomainStatus:
    """One domain of the live generation."""

    domain: str
    description: str
    documents: int
    chunks: int
    expert: str
    candidate: str
    fingerprint: str
    precision: str
    index: IndexInfo | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Status:
    """The live generation of a store. `waiting`: domain -> trained expert of those that have no table yet."""

    store: str
    generation: int
    created: str
    model: str
    router: str
    domains: tuple[DomainStatus, ...]
    waiting: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def status_of(store: Store, live: Generation) -> Status:
    """The status of a generation of a store."""
    candidates = candidate_experts(store, live)
    bring_descriptions(store.place)
    domains = sorted(live.domains.items())
    return Status(
        store=store.name,
        generation=live.number,
        created=live.created,
        model=live.model.get("name", ""),
        router=live.router,
        domains=tuple(_domain(store, name, entry, candidates.get(name)) for name, entry in domains),
        waiting={name: folder.name for name, folder in sorted(newcomers(store, live).items())},
    )


def _domain(store: Store, name: str, entry: DomainEntry, candidate: Path | None) -> DomainStatus:
    waiting = candidate.name if candidate and candidate.name != entry.expert else ""
    return DomainStatus(
        domain=name,
        description=entry.description,
        documents=entry.documents,
        chunks=entry.rows,
        expert=entry.expert,
        candidate=waiting,
        fingerprint=entry.fingerprint,
        precision=entry.precision,
        index=_index(store, entry),
    )


def _index(store: Store, entry: DomainEntry) -> IndexInfo | None:
    """The FAISS index of an entry, else the one inside its table."""
    found = index_info(store.indexes_dir, entry)
    if found is not None or not entry.rows:
        return found
    try:
        return index_info(store.indexes_dir, entry, view=store.view(entry))
    except StoreError:
        return None  # what is wrong with the table, moeret doctor says
