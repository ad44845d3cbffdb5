"""What a reindex means for each domain: what changed, how many chunks to encode, how long it takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_retrieval.domain_experts import DomainExperts
from moe_retrieval.engines.bundled import find_model
from moe_retrieval.errors import ModelError
from moe_retrieval.model.packs import open_pack
from moe_retrieval.retrieval.candidates import live_experts
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.store import Store


class Part(StrEnum):
    """What a domain's vectors, or its chunks, depend on."""

    TRUNK = "trunk"
    EXPERT = "expert"
    TOKEN_ROW = "token_row"  # noqa: S105 - a row of embeddings
    WORDS = "words"
    TOKENIZER = "tokenizer"
    POOLING = "pooling"
    MAX_LENGTH = "max_length"
    DIM = "dim"
    QUERY_PROMPT = "query_prompt"
    DOCUMENT_PROMPT = "document_prompt"
    CHUNKING = "chunking"
    OTHER = "other"


RECORDED = (
    Part.TRUNK,
    Part.TOKENIZER,
    Part.POOLING,
    Part.MAX_LENGTH,
    Part.DIM,
    Part.QUERY_PROMPT,
    Part.DOCUMENT_PROMPT,
)
"""Parts of the model that every generation records: where one differs, every domain is stale."""


@dataclass(frozen=True, slots=True)
class Change:
    """One part that is another now; digests and names stand for what has no short value."""

    part: Part
    before: str
    after: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DomainPlan:
    """What reindexing one domain means.

    `rows` are its chunks now; `encode` and `reuse` together those it will have: embedded anew, and with a
    vector that is there already. `stored` and `target` are fingerprints; `rechunk` names the chunker that its
    documents are to be cut with, empty where they keep their chunks. `seconds` and `bytes` are estimates,
    None where none was asked for.
    """

    domain: str
    rows: int
    stored: str
    target: str
    changes: tuple[Change, ...] = ()
    rechunk: str = ""
    encode: int = 0
    reuse: int = 0
    seconds: float | None = None
    bytes: int | None = None

    @property
    def stale(self) -> bool:
        """Whether its vectors are not those of the encoder."""
        return self.stored != self.target

    @property
    def due(self) -> bool:
        """Whether there is anything to do."""
        return self.stale or bool(self.rechunk)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"stale": self.stale}


def changes_of(
    domain: str, entry: DomainEntry, *, live: Generation, store: Store, encoder: Encoder
) -> tuple[Change, ...]:
    """Why a domain's vectors are not the encoder's: what the generation records against what is loaded.

    Empty where the fingerprints are equal.
    """
    if entry.fingerprint == encoder.fingerprint(domain):
        return ()
    here = encoder.model_identity()
    found = [
        Change(part, live.model.get(part, ""), here[part])
        for part in RECORDED
        if live.model.get(part, here[part]) != here[part]
    ]
    found += _of_expert(domain, entry, live=live, store=store, encoder=encoder)
    if not found and live.model.get("general", here["general"]) != here["general"]:
        found.append(Change(Part.EXPERT, live.model["general"], here["general"]))  # a delta stands on general
    return tuple(found) or (Change(Part.OTHER, "", ""),)


def same_model(live: Generation, encoder: Encoder) -> bool:
    """Whether all that a generation records of the model, but its place, is as it is in the encoder."""
    here = encoder.model_identity()
    return all(live.model.get(name) == here[name] for name in (*RECORDED, "general"))


def _of_expert(
    domain: str, entry: DomainEntry, *, live: Generation, store: Store, encoder: Encoder
) -> list[Change]:
    """Which parts of the domain's own expert are others: its feed-forwards, token row or added words."""
    before, after = entry.expert, encoder.expert_of(domain)
    if before == after == GENERAL:
        old, new = live.model.get("general", ""), encoder.model_identity()["general"]
        return [Change(Part.EXPERT, old, new)] if old != new else []
    if before == after:
        return []
    fresh = _parts(encoder.experts, domain)
    if before == GENERAL:
        stored = _parts(encoder.experts, GENERAL)
    else:
        stored = _digests_of(domain, entry, live=live, store=store, encoder=encoder)
    other = [Change(part, before, after) for part in fresh if stored.get(part, "") != fresh[part]]
    return other or [Change(Part.EXPERT, before, after)]


def _digests_of(
    domain: str, entry: DomainEntry, *, live: Generation, store: Store, encoder: Encoder
) -> dict[Part, str]:
    """Digests of the expert that a domain was written with; where it is not at hand any more, those of the
    domain now but for the expert's own.
    """
    unknown = _parts(encoder.experts, domain) | {Part.EXPERT: ""}
    try:
        experts = _experts_of(domain, live=live, store=store, encoder=encoder)
    except ModelError:
        return unknown
    return _parts(experts, domain) if experts.name(domain) == entry.expert else unknown


def _experts_of(domain: str, *, live: Generation, store: Store, encoder: Encoder) -> DomainExperts:
    """Experts among which a domain's recorded one is: of the store, or of the model's folder."""
    if (folder := live_experts(store, live).get(domain)) is not None:
        return DomainExperts(encoder.source, {domain: open_pack(folder)})
    path = live.model.get("path", "")
    return DomainExperts(find_model(path) if Path(path).is_dir() else encoder.source, {})


def _parts(experts: DomainExperts, domain: str) -> dict[Part, str]:
    return {
        Part.EXPERT: experts.feed_forward(domain),
        Part.TOKEN_ROW: experts.token_row(domain),
        Part.WORDS: experts.vocabulary(domain),
    }
