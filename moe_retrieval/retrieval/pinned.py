"""Which encoder a generation pins: its model, its settings, its experts, checked against its fingerprints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.encoder import Encoder
from moe_retrieval.engines.bundled import BUNDLED
from moe_retrieval.errors import ModelMismatchError, StaleDomainError
from moe_retrieval.retrieval.candidates import live_experts
from moe_retrieval.types import EngineName, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.errors import MoeretError
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store

DECIDING = ("query_prompt", "document_prompt", "max_length")
"""Settings that decide vectors: recorded in every generation, and not to be changed behind its back."""


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """What the caller asked of the encoder; the rest (empty, None for prompts) comes from the generation."""

    model: str = ""
    precision: Precision = Precision.AUTO
    engine: EngineName = EngineName.AUTO
    cache: Path | None = None
    device: str = ""
    max_length: int = 0
    query_prompt: str | None = None
    document_prompt: str | None = None


def pinned_encoder(store: Store, generation: Generation | None, choice: EncoderChoice) -> Encoder:
    """The encoder that `generation` was written with, holding exactly the experts it pins.

    Raises:
        ModelMismatchError: another model was asked for than the store was written with.
        StaleDomainError: a setting that decides vectors (prompt, length) differs from the recorded one.
    """
    if not same_model(generation, choice):
        recorded = generation.model.get("name", "?") if generation else "?"
        raise ModelMismatchError(
            f"the store was written with model {recorded!r}, not {choice.model!r}",
            hint="leave the model out (--model, MOERET_MODEL), or move the store: moeret reindex --model",
        )
    encoder = load_encoder(generation, choice, experts=live_experts(store, generation))
    check_fingerprints(encoder, generation)
    return encoder


def check_fingerprints(encoder: Encoder, generation: Generation | None) -> None:
    """Refuse an encoder whose vectors would not compare with those of a generation.

    Raises:
        StaleDomainError: names the domain, and the setting that differs if it is one.
    """
    for domain, entry in generation.domains.items() if generation else ():
        if (loaded := encoder.fingerprint(domain)) != entry.fingerprint:
            raise _stale(domain, generation, stored=entry.fingerprint, loaded=loaded, encoder=encoder)


def load_encoder(
    generation: Generation | None, choice: EncoderChoice, *, experts: Mapping[str, Path]
) -> Encoder:
    """An encoder as chosen, with the given expert folders by domain.

    Where the model is the generation's own, what is not chosen comes from what the generation records;
    another model comes with its own settings.
    """
    recorded = dict(generation.model) if generation and same_model(generation, choice) else {}
    return Encoder.load(
        choice.model or _place(recorded) or None,
        experts=experts,
        precision=_precision(generation, choice.precision),
        engine=choice.engine,
        cache=choice.cache,
        device=choice.device or None,
        max_length=choice.max_length or int(recorded.get("max_length", 0)) or None,
        query_prompt=_chosen(choice.query_prompt, recorded.get("query_prompt")),
        document_prompt=_chosen(choice.document_prompt, recorded.get("document_prompt")),
    )


def same_model(generation: Generation | None, choice: EncoderChoice) -> bool:
    """Whether the chosen model has the trunk that the generation was written with, however it is spelt."""
    if generation is None or not choice.model:
        return True
    if choice.model in (generation.model.get("path"), generation.model.get("name")):
        return True
    return Encoder.load(choice.model).model_identity()["trunk"] == generation.model.get("trunk")


def _place(recorded: Mapping[str, str]) -> str:
    """Where the recorded model is: the bundled package or its folder, else what its name says (a hub id)."""
    path = recorded.get("path", "")
    return path if path == BUNDLED or Path(path).is_dir() else recorded.get("name", "")


def _chosen(asked: str | None, recorded: str | None) -> str:
    return (recorded or "") if asked is None else asked


def _precision(generation: Generation | None, asked: Precision) -> Precision:
    """Queries are encoded in the number format the documents were, unless the caller says otherwise."""
    stored = {entry.precision for entry in generation.domains.values()} if generation else set()
    return Precision(stored.pop()) if asked is Precision.AUTO and len(stored) == 1 else asked


def _stale(
    domain: str, generation: Generation | None, *, stored: str, loaded: str, encoder: Encoder
) -> MoeretError:
    """Name the setting that differs, where it is one: then that is the cause, and every domain is stale."""
    recorded, here = (generation.model if generation else {}), encoder.model_identity()
    for name in DECIDING:
        if here[name] != recorded.get(name, here[name]):
            return StaleDomainError(
                domain,
                stored=stored,
                loaded=loaded,
                hint=f"the store was written with {name} = {recorded[name]!r}, now it is {here[name]!r}: "
                "change it back, or moeret reindex",
            )
    return StaleDomainError(domain, stored=stored, loaded=loaded)
