"""Which encoder a generation pins: its model, its settings, its experts, checked against its fingerprints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.encoder import Encoder
from moe_retrieval.errors import ModelMismatchError, StaleDomainError
from moe_retrieval.types import GENERAL, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moe_retrieval.errors import MoeretError
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store

CANDIDATES = "candidates"


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """What the caller asked of the encoder; what is left empty comes from the generation."""

    model: str = ""
    precision: Precision = Precision.AUTO
    device: str = ""
    max_length: int = 0
    query_prompt: str = ""
    document_prompt: str = ""


def pinned_encoder(store: Store, generation: Generation | None, choice: EncoderChoice) -> Encoder:
    """The encoder that `generation` was written with, holding exactly the experts it pins.

    Raises:
        ModelMismatchError: another model was asked for than the store was written with.
        StaleDomainError: a setting that decides vectors (prompt, length) differs from the recorded one.
    """
    experts = live_experts(store, generation)
    encoder = load_encoder(generation, choice, experts=experts)
    for domain, entry in (generation.domains if generation else {}).items():
        if encoder.fingerprint(domain) != entry.fingerprint:
            raise _refusal(domain, generation, choice, encoder=encoder)
    return encoder


def load_encoder(
    generation: Generation | None, choice: EncoderChoice, *, experts: Mapping[str, Path]
) -> Encoder:
    """An encoder as chosen, completed from what the generation records, with the given expert folders by
    domain.
    """
    recorded = dict(generation.model) if generation else {}
    return Encoder.load(
        choice.model or recorded.get("name") or None,
        experts=experts,
        precision=_precision(generation, choice.precision),
        device=choice.device or None,
        max_length=choice.max_length or int(recorded.get("max_length", 0)) or None,
        query_prompt=choice.query_prompt or recorded.get("query_prompt", ""),
        document_prompt=choice.document_prompt or recorded.get("document_prompt", ""),
    )


def live_experts(store: Store, generation: Generation | None) -> dict[str, Path]:
    """Folder of each domain's own expert in this generation; domains on `general` are left out."""
    entries = generation.domains.items() if generation else ()
    return {domain: store.experts_dir / entry.expert for domain, entry in entries if entry.expert != GENERAL}


def candidate_experts(store: Store, generation: Generation | None) -> dict[str, Path]:
    """As `live_experts`, but a registered candidate takes the place of the live expert."""
    experts = live_experts(store, generation)
    folder = store.experts_dir / CANDIDATES
    for domain in generation.domains if generation else ():
        note = folder / domain
        if note.is_file():
            experts[domain] = store.experts_dir / note.read_text(encoding="ascii").strip()
    return experts


def _precision(generation: Generation | None, asked: Precision) -> Precision:
    """Queries are encoded in the number format the documents were, unless the caller says otherwise."""
    stored = {entry.precision for entry in generation.domains.values()} if generation else set()
    return Precision(stored.pop()) if asked is Precision.AUTO and len(stored) == 1 else asked


def _refusal(
    domain: str, generation: Generation | None, choice: EncoderChoice, *, encoder: Encoder
) -> MoeretError:
    recorded = generation.model if generation else {}
    if choice.model and encoder.model_identity()["trunk"] != recorded.get("trunk"):
        return ModelMismatchError(
            f"the store was written with model {recorded.get('name', '?')!r}, not {encoder.name!r}",
            hint="leave --model out, or moeret reindex --model to move the whole store to it",
        )
    stored = generation.domains[domain].fingerprint if generation else ""
    return StaleDomainError(domain, stored=stored, loaded=encoder.fingerprint(domain))
