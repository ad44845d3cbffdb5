"""The experts of a store: those a generation pins, and candidates that wait for their table.

A candidate of a domain that has a table waits for the next reindex. One of a domain that has none is used by
the first index run that makes its table: nothing is stale there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.domain_experts import DomainExperts
from moe_retrieval.errors import UsageError
from moe_retrieval.model.packs import Pack, open_pack
from moe_retrieval.storage.candidate_notes import CANDIDATES, register, registered
from moe_retrieval.storage.durability import file_faults, write_atomically
from moe_retrieval.types import GENERAL, slug

if TYPE_CHECKING:
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store


def live_experts(store: Store, generation: Generation | None) -> dict[str, Path]:
    """Folder of each domain's own expert in this generation, as far as the store holds it.

    Left out are domains on `general`, and those whose expert lies in the model's own folder.
    """
    entries = generation.domains.items() if generation else ()
    own = {domain: _folder(store, entry.expert) for domain, entry in entries if entry.expert != GENERAL}
    return {domain: folder for domain, folder in own.items() if folder.is_dir()}


def candidate_experts(store: Store, generation: Generation | None) -> dict[str, Path]:
    """As `live_experts`, but a registered candidate takes the place of the live expert."""
    held = generation.domains if generation else ()
    waiting = {domain: folder for domain, folder in _registered(store).items() if domain in held}
    return live_experts(store, generation) | waiting


def newcomers(store: Store, generation: Generation | None) -> dict[str, Path]:
    """Folder of the candidate of each domain that this generation has no table for."""
    held = generation.domains if generation else ()
    return {domain: folder for domain, folder in _registered(store).items() if domain not in held}


def check_candidate(domain: str, folder: Path, *, encoder: Encoder) -> Pack:
    """The exported expert in `folder`, if it can become the candidate of a domain.

    Raises:
        UsageError: the domain cannot have that name, or the model chooses its experts by a learned gate.
        ModelError: the folder is no sound expert.
        ModelMismatchError: the expert was trained on another model; both are named.
    """
    if domain == GENERAL or not domain or slug(domain) != domain:
        raise UsageError(
            f"{domain!r} cannot name a domain with an expert of its own",
            hint=f"use lower-case letters, digits and hyphens, like skin-cancer; {GENERAL} is the "
            "pretrained expert",
        )
    pack = open_pack(Path(folder).resolve())
    DomainExperts(encoder.source, {domain: pack})
    return pack


def register_candidate(store: Store, domain: str, folder: Path, *, encoder: Encoder) -> None:
    """Take an exported expert into the store as the candidate of a domain, which may have no table yet.

    `folder`: what `export_expert` wrote, named by the sha256 of its weights.

    Raises:
        UsageError: the domain cannot have that name, or the model takes no experts of domains.
        ModelError: the folder is no sound expert of this model; the store is as it was.
    """
    pack = check_candidate(domain, folder, encoder=encoder)
    with store.lease():
        _take_in(store, domain, pack)


def take_in_packs(store: Store, encoder: Encoder) -> None:
    """Copy the packs that an encoder uses into the store, which will pin them."""
    outside = [
        place
        for place in encoder.experts.places.values()
        if isinstance(place, Pack) and place.folder.parent != store.experts_dir
    ]
    if outside:
        with store.lease():
            for pack in outside:
                _copy(store, pack)


def forget_candidate(store: Store, domain: str) -> bool:
    """Drop the candidate of a domain; gives whether it had one."""
    found = domain in store.place.names(CANDIDATES)
    store.place.remove(f"{CANDIDATES}/{domain}")
    return found


def _registered(store: Store) -> dict[str, Path]:
    """Folder of every candidate, by domain; half-written notes that a kill left are no domains."""
    return {domain: _folder(store, expert) for domain, expert in registered(store.place).items()}


def _folder(store: Store, sha: str) -> Path:
    return store.place.fetch(f"experts/{sha}")


def _take_in(store: Store, domain: str, pack: Pack) -> None:
    """Copy a pack into the store, then note it as the domain's candidate; under the lease."""
    _copy(store, pack)
    register(store.place, domain, pack.sha)


def _copy(store: Store, pack: Pack) -> None:
    home = store.experts_dir / pack.sha
    with file_faults(f"copy the expert {pack.sha[:12]}"):
        for file in sorted(pack.folder.iterdir()) if home != pack.folder else ():
            if file.suffix in (".safetensors", ".json", ".md"):
                write_atomically(home / file.name, file.read_bytes(), durable=store.durable)
    store.place.share(f"experts/{pack.sha}")
