"""Give a domain another name: one generation in which its table, expert and router have the new one."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import ModelError, UnknownDomainError, UsageError
from moe_retrieval.generations import live_generation
from moe_retrieval.retrieval import pinned
from moe_retrieval.retrieval.candidates import candidate_experts, forget_candidate, live_experts, newcomers
from moe_retrieval.retrieval.routing import load_router
from moe_retrieval.storage.candidate_notes import CANDIDATES
from moe_retrieval.storage.maintenance.unneeded import ROUTERS
from moe_retrieval.types import GENERAL, slug

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.retrieval.pinned import EncoderChoice
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store


@dataclass(frozen=True, slots=True)
class Renaming:
    """A domain under its new name. `generation`: what is live now."""

    old: str
    new: str
    documents: int
    generation: int
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def rename_domain(
    store: Store, choice: EncoderChoice, old: str, *, new: str, dry_run: bool = False
) -> Renaming:
    """Publish a generation in which `old` is called `new`; nothing is encoded. A waiting expert moves along.

    Queries that run meanwhile end under the old name; the next ones know only the new one.

    Raises:
        UnknownDomainError: there is no domain `old`.
        UsageError: `new` is no name or is taken, or the model knows the domain by its name: its vectors would
            not be those of `new`.
        StoreBusyError: another process is writing.
    """
    with nullcontext() if dry_run else store.lease():
        live = live_generation(store)
        _check_names(store, live, old, new)
        domains = {new if name == old else name: entry for name, entry in live.domains.items()}
        renamed = replace(live, domains=domains)
        _check_vectors(store, renamed, live=live, choice=choice, old=old, new=new)
        number = live.number if dry_run else _publish(store, renamed, old, new).number
    return Renaming(old, new, live.domains[old].documents, number, dry_run)


def _check_names(store: Store, live: Generation, old: str, new: str) -> None:
    if old not in live.domains:
        raise UnknownDomainError(old, live.domains)
    if not new or slug(new) != new:
        hint = f"did you mean {slug(new)!r}?" if slug(new) else "use lower-case letters, digits and hyphens"
        raise UsageError(f"{new!r} cannot name a domain", hint=hint)
    if new == old:
        raise UsageError(f"domain {old!r} has that name", hint="give another one")
    if new in live.domains:
        hint = f"to join them, index the documents of {old} with --domain {new}"
        raise UsageError(f"there is a domain {new!r} already", hint=hint)
    if new == GENERAL and live.domains[old].expert != GENERAL:
        hint = f"{GENERAL} is the pretrained expert; take another name"
        raise UsageError(f"domain {old!r} has an expert of its own and cannot be called {GENERAL}", hint=hint)
    moving = candidate_experts(store, live).get(old)
    if (waiting := newcomers(store, live).get(new)) and waiting != moving:
        hint = f"moeret domains remove {new} forgets it"
        raise UsageError(f"a trained expert waits for a domain {new!r}", hint=hint)


def _check_vectors(
    store: Store, renamed: Generation, *, live: Generation, choice: EncoderChoice, old: str, new: str
) -> None:
    """Whether the stored vectors are those that the encoder would give under the new name.

    Raises:
        UsageError: the model knows one of the names.
    """
    encoder = pinned.load_encoder(renamed, choice, experts=live_experts(store, renamed))
    if encoder.fingerprint(new) == renamed.domains[new].fingerprint:
        pinned.check_fingerprints(encoder, renamed)
        return
    pinned.pinned_encoder(store, live, choice)  # if that is not as it should be, this is not about names
    raise UsageError(
        f"domain {old!r} cannot be called {new!r}: {_reason(encoder, old, new)}",
        hint=f"write the expert out (moeret model export-expert {encoder.name} {old} --output DIR), then "
        f"index the documents anew with --domain {new} --experts {new}=DIR/SHA256",
    )


def _reason(encoder: Encoder, old: str, new: str) -> str:
    known = [name for name in (old, new) if name in encoder.source.domains]
    return f"the model {encoder.name} has weights for {' and for '.join(known) or old} in its own folder"


def _publish(store: Store, renamed: Generation, old: str, new: str) -> Generation:
    """The note of a waiting expert is there twice until the generation is: none is lost on the way."""
    notes = store.place.names(CANDIDATES)
    if old in notes:
        store.place.replace(f"{CANDIDATES}/{new}", store.place.read(f"{CANDIDATES}/{old}"))
    published = store.catalog.publish(
        renamed.domains,
        model=renamed.model,
        router=_relabelled(store, renamed, old, new),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        partial=renamed.partial,
        note=f"rename {old} to {new}",
        calibration=_renamed(renamed.calibration, old, new),
        tuning=_tuning(renamed, old, new),
        after=renamed.number,
    )
    forget_candidate(store, old)
    return published


def _renamed(values: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """The same by domain, `old` called `new`; what was left of an earlier domain of that name goes."""
    kept = {domain: one for domain, one in values.items() if domain not in (old, new)}
    return kept | ({new: values[old]} if old in values else {})


def _tuning(renamed: Generation, old: str, new: str) -> dict[str, Any]:
    weights = renamed.tuning.get("weights", {})
    return {**renamed.tuning, "weights": _renamed(weights, old, new)} if weights else dict(renamed.tuning)


def _relabelled(store: Store, renamed: Generation, old: str, new: str) -> str:
    """The name of the router that says `new` where the live one says `old`."""
    try:
        router = load_router(store, renamed)
    except ModelError:
        return renamed.router  # damaged: queries do without it, and the next index fits it again
    if router is None or old not in router.domains:
        return renamed.router
    if new in router.domains:
        return ""  # of a domain that is no more: all are searched until the next index fits the router again
    saved = router.renamed(old, new).save(store.routers_dir)
    store.place.share(f"{ROUTERS}/{saved}.safetensors")
    return saved
