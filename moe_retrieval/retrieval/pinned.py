"""Which encoder a generation pins: its model, its settings, its experts, checked against its fingerprints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.encoder import Encoder
from moe_retrieval.engines.bundled import BUNDLED
from moe_retrieval.engines.precision import resolve_precision
from moe_retrieval.errors import ModelError, ModelMismatchError, StaleDomainError
from moe_retrieval.model.packs import Pack, check_fit, open_pack
from moe_retrieval.retrieval.candidates import candidate_experts, live_experts, newcomers
from moe_retrieval.types import GENERAL, EngineName, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from moe_retrieval.errors import MoeretError
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store

DECIDING = ("query_prompt", "document_prompt", "max_length")
"""Settings that decide vectors: recorded in every generation, and not to be changed behind its back."""


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """What the caller asked of the encoder; the rest (empty, None for prompts) comes from the generation.

    `experts`: domain -> folder of an exported expert, for domains that have none of their own.
    """

    model: str = ""
    precision: Precision = Precision.AUTO
    engine: EngineName = EngineName.AUTO
    cache: Path | None = None
    device: str = ""
    max_length: int = 0
    query_prompt: str | None = None
    document_prompt: str | None = None
    experts: Mapping[str, Path] = field(default_factory=dict)


def pinned_encoder(store: Store, generation: Generation | None, choice: EncoderChoice) -> Encoder:
    """The encoder that `generation` was written with, holding exactly the experts it pins.

    Raises:
        ModelMismatchError: another model was asked for than the store was written with.
        ModelError: an expert is damaged or gone.
        StaleDomainError: a setting that decides vectors (prompt, length) differs from the recorded one.
    """
    _check_model(generation, choice)
    encoder = load_encoder(generation, choice, experts=live_experts(store, generation))
    _check_present(store, generation, encoder)
    check_fingerprints(encoder, generation)
    return encoder


def writing_encoder(
    store: Store,
    generation: Generation | None,
    choice: EncoderChoice,
    *,
    notify: Callable[[str], None],
    loaded: Encoder | None = None,
) -> Encoder:
    """As `pinned_encoder`, and with experts for domains that the generation has no table for.

    They are their candidates, or those that are chosen. `notify` hears of candidates that do not fit the
    store's model any more. `loaded`, which wrote for the same choice before, is taken where it would be the
    same.

    Raises:
        ModelMismatchError: another model was asked for, or, in a store without a generation, a candidate was
            trained on another one.
        StaleDomainError: a setting that decides vectors (prompt, length) differs from the recorded one.
    """
    _check_model(generation, choice)
    waiting, held = newcomers(store, generation), generation.domains if generation else {}
    free = choice.experts.keys() - held.keys() - waiting.keys()
    if loaded and generation and not waiting and not free and _writes(loaded, generation, choice):
        return loaded
    live = _with_chosen(generation, choice, live_experts(store, generation), free=free)
    encoder = _load_both(generation, choice, live=live, waiting=waiting, notify=notify)
    _check_present(store, generation, encoder)
    check_fingerprints(encoder, generation)
    return encoder


def reindexing_encoder(
    store: Store, generation: Generation, choice: EncoderChoice, *, notify: Callable[[str], None]
) -> Encoder:
    """The encoder that the store's tables are to be brought to: as chosen, with candidates in place, and with
    chosen experts for domains on `general`.

    Experts do not fit another trunk: where one is chosen, there are none. `notify` hears of candidates that
    an earlier change of the model left behind.
    """
    if not same_model(generation, choice):
        return load_encoder(generation, choice, experts={})
    waiting = candidate_experts(store, generation)
    bare = {name for name, entry in generation.domains.items() if entry.expert == GENERAL}
    free = (choice.experts.keys() & bare) - waiting.keys()
    live = _with_chosen(generation, choice, live_experts(store, generation), free=free)
    return _load_both(generation, choice, live=live, waiting=waiting, notify=notify)


def _with_chosen(
    generation: Generation | None, choice: EncoderChoice, live: Mapping[str, Path], *, free: AbstractSet[str]
) -> dict[str, Path]:
    """Live experts, and the chosen ones of `free` domains for which the model's folder holds none."""
    if not free:
        return dict(live)
    inside = load_encoder(generation, choice, experts=live).domains
    return {**live, **{name: choice.experts[name] for name in sorted(free - set(inside))}}


def _load_both(
    generation: Generation | None,
    choice: EncoderChoice,
    *,
    live: Mapping[str, Path],
    waiting: Mapping[str, Path],
    notify: Callable[[str], None],
) -> Encoder:
    """An encoder with live experts and candidates; those that do not fit the store's model are left out."""
    try:
        return load_encoder(generation, choice, experts={**live, **waiting})
    except ModelMismatchError:
        if generation is None:
            raise
        base = load_encoder(generation, choice, experts=live)
        return load_encoder(
            generation, choice, experts={**live, **_fitting(waiting, base=base, notify=notify)}
        )


def _fitting(experts: Mapping[str, Path], *, base: Encoder, notify: Callable[[str], None]) -> dict[str, Path]:
    """Those that were trained on the encoder's model; `notify` hears of the others."""
    fitting = {}
    for domain, folder in experts.items():
        try:
            check_fit(open_pack(folder), base.source.digests(), name=base.name)
            fitting[domain] = folder
        except ModelMismatchError as error:
            notify(f"the candidate of domain {domain} is not used: {error.message}")
    return fitting


def _check_model(generation: Generation | None, choice: EncoderChoice) -> None:
    if not same_model(generation, choice):
        recorded = generation.model.get("name", "?") if generation else "?"
        raise ModelMismatchError(
            f"the store was written with model {recorded!r}, not {choice.model!r}",
            hint="leave the model out (--model, MOERET_MODEL), or move the store: moeret reindex --model",
        )


def _check_present(store: Store, generation: Generation | None, encoder: Encoder) -> None:
    """Whether the experts that the store does not hold are those of the model's folder.

    Raises:
        ModelError: the expert of a domain is in neither.
    """
    held = live_experts(store, generation)
    for domain, entry in generation.domains.items() if generation else ():
        lost = entry.expert != GENERAL and domain not in held and encoder.expert_of(domain) != entry.expert
        if lost and encoder.fingerprint(domain) != entry.fingerprint:
            raise ModelError(
                f"the expert {entry.expert[:12]} of domain {domain!r} is neither in {store.name}/experts "
                f"nor in the model {encoder.name}",
                hint=f"copy its folder back, or moeret reindex --domain {domain}",
            )


def check_fingerprints(encoder: Encoder, generation: Generation | None) -> None:
    """Refuse an encoder whose vectors would not compare with those of a generation.

    Raises:
        StaleDomainError: names the domain, and the setting that differs if it is one.
    """
    for domain, entry in generation.domains.items() if generation else ():
        if (loaded := encoder.fingerprint(domain)) != entry.fingerprint:
            raise _stale(domain, generation, stored=entry.fingerprint, loaded=loaded, encoder=encoder)


def serves(encoder: Encoder, generation: Generation, choice: EncoderChoice) -> bool:
    """Whether a loaded encoder answers as the pinned one would: same vectors, same format."""
    alike = all(
        (encoder.expert_of(domain), encoder.fingerprint(domain)) == (entry.expert, entry.fingerprint)
        for domain, entry in generation.domains.items()
    )
    wanted = resolve_precision(_precision(generation, choice.precision), device=encoder.device)
    return alike and encoder.precision is wanted


def _writes(encoder: Encoder, generation: Generation, choice: EncoderChoice) -> bool:
    """Whether it serves, and knows no expert that was given for a domain which is gone since."""
    given = {domain for domain, place in encoder.experts.places.items() if isinstance(place, Pack)}
    return given <= generation.domains.keys() and serves(encoder, generation, choice)


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
