"""The experts of a store: those a generation pins, and candidates that wait for the next reindex."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.errors import UnknownDomainError
from moe_retrieval.model.packs import check_fit, open_pack
from moe_retrieval.storage.durability import write_atomically
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store

_CANDIDATES = "candidates"


def live_experts(store: Store, generation: Generation | None) -> dict[str, Path]:
    """Folder of each domain's own expert in this generation; domains on `general` are left out."""
    entries = generation.domains.items() if generation else ()
    return {domain: store.experts_dir / entry.expert for domain, entry in entries if entry.expert != GENERAL}


def candidate_experts(store: Store, generation: Generation | None) -> dict[str, Path]:
    """As `live_experts`, but a registered candidate takes the place of the live expert."""
    experts = live_experts(store, generation)
    for domain in generation.domains if generation else ():
        note = store.experts_dir / _CANDIDATES / domain
        if note.is_file():
            experts[domain] = store.experts_dir / note.read_text(encoding="ascii").strip()
    return experts


def register_candidate(store: Store, domain: str, folder: Path, *, encoder: Encoder) -> None:
    """Take an exported expert into the store as the candidate of a domain.

    `folder`: what `export_expert` wrote, named by the sha256 of its weights.

    Raises:
        UnknownDomainError: the store has no such domain.
        ModelError: the folder is no sound expert.
        ModelMismatchError: the expert was trained on another model.
    """
    folder = Path(folder).resolve()
    with store.lease():
        live = store.catalog.latest()
        if live is None or domain not in live.domains:
            raise UnknownDomainError(domain, live.domains if live else ())
        pack = open_pack(folder)
        check_fit(pack, encoder.source.digests(), name=encoder.name)
        home = store.experts_dir / pack.sha
        for file in sorted(folder.iterdir()) if home != folder else ():
            if file.suffix in (".safetensors", ".json"):
                write_atomically(home / file.name, file.read_bytes())
        write_atomically(store.experts_dir / _CANDIDATES / domain, pack.sha.encode())


def forget_candidate(store: Store, domain: str) -> None:
    """Drop the candidate of a domain, if it has one."""
    (store.experts_dir / _CANDIDATES / domain).unlink(missing_ok=True)
