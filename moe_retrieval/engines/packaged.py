"""Expert packs that come with the package: `experts/<name>/<sha256>/`, beside the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.errors import UsageError, did_you_mean
from moe_retrieval.types import slug

if TYPE_CHECKING:
    from collections.abc import Iterable

EXPERTS = Path(__file__).parents[1] / "experts"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def bundled_experts(folder: Path = EXPERTS) -> dict[str, Path]:
    """Folder of the pack of each bundled expert, by name; none where none is installed.

    Their bytes are checked when one is opened (`open_pack`).
    """
    homes = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    packs = {
        home.name: sorted(path for path in home.iterdir() if _SHA256.fullmatch(path.name)) for home in homes
    }
    return {name: found[0] for name, found in packs.items() if found}


def find_expert(name: str, *, folder: Path = EXPERTS) -> Path:
    """The pack that `name` means: a bundled expert, or a folder.

    Raises:
        UsageError: it is neither.
    """
    known = bundled_experts(folder)
    if name in known:
        return known[name]
    place = Path(name).expanduser()
    if name and place.is_dir():
        return place
    hint = did_you_mean(name, known) if known else "none is bundled: give the folder of an exported expert"
    raise UsageError(f"{name!r} is no bundled expert and no folder", hint=hint)


def expert_folders(words: Iterable[str], *, folder: Path = EXPERTS) -> dict[str, Path]:
    """Domain -> pack, from words like `cvd=cardiovascular` (a bundled expert), `cvd=FOLDER`, or `bundled`.

    The last stands for each bundled expert, for the domain of its name.

    Raises:
        UsageError: a word means no expert.
    """
    packs: dict[str, Path] = {}
    for word in words:
        domain, said, name = word.partition("=")
        if word == "bundled":
            packs |= bundled_experts(folder)
        elif said and slug(domain) and name:
            packs[slug(domain)] = find_expert(name, folder=folder)
        else:
            hint = f"bundled, or DOMAIN=NAME; bundled are: {', '.join(bundled_experts(folder)) or 'none'}"
            raise UsageError(f"{word!r} names no domain and expert", hint=hint)
    return packs
