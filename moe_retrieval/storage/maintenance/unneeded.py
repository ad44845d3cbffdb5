"""What lies in a store and what of it nothing needs: tables, experts, routers, index files, lists, drafts."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from moe_retrieval.errors import MoeretError, StoreCorruptError
from moe_retrieval.storage.candidate_notes import registered
from moe_retrieval.storage.indexes import sidecar
from moe_retrieval.storage.places.folder import Folder
from moe_retrieval.storage.places.place import TABLES
from moe_retrieval.storage.tables import sums
from moe_retrieval.storage.tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.maintenance.needs import Needs
    from moe_retrieval.storage.places.place import Place

EXPERTS, ROUTERS, INDEXES = "experts", "routers", "indexes"
_SUFFIX = ".lance"
_TABLE = re.compile(r"d_(?P<domain>[a-z0-9-]+)\.g(?P<number>\d+)")
_SHA = re.compile(r"[0-9a-f]{64}")
_DRAFT = re.compile(r"\..*\.tmp|\.tmp.*|\.new-.*|\.[0-9a-f]{64}\.\d+")
"""Names under which files are written before they get their own: by the store, Lance, packs, routers."""


def tables(place: Place) -> list[str]:
    """Names of all tables, whole or not."""
    found = [name.removesuffix(_SUFFIX) for name in place.names(TABLES) if name.endswith(_SUFFIX)]
    return [name for name in found if _TABLE.fullmatch(name)]


def unfinished(
    place: Place, loose: Iterable[str], *, live: Generation | None, mending: bool = False
) -> set[str]:
    """Those of the tables `loose`, which no generation names, that a later run goes on with.

    Of a domain that has a table that is its newest one of every encoder: `reindex` looks for it. Of another
    it is what was made since the newest generation: `index` looks for that. `mending`: what a power cut left
    torn of such a table is set aside first.
    """
    held, number = (live.domains.keys(), live.number) if live else (set(), 0)
    found: dict[tuple[str, str], str] = {}
    for domain, name in _by_age(loose):
        try:
            if mending:
                place.mend(name, acknowledged=0)
            table = Table(place, name=name)
        except MoeretError:
            continue  # killed while it was being created
        if domain in held or table.after == number:
            found.setdefault((domain, table.fingerprint), name)
    return set(found.values())


def experts(place: Place, needs: Needs) -> list[str]:
    """Folders of experts that nothing needs: no generation pins them, no candidate is one.

    Raises:
        StoreCorruptError: the note of a candidate is damaged: which expert waits is not known then.
    """
    needed = needs.experts | set(registered(place).values())
    return [name for name in place.names(EXPERTS) if _SHA.fullmatch(name) and name not in needed]


def routers(place: Place, needs: Needs) -> list[str]:
    """Files of routers that nothing needs."""
    found = [PurePosixPath(name) for name in place.names(ROUTERS)]
    return [one.name for one in found if _SHA.fullmatch(one.stem) and one.stem not in needs.routers]


def indexes(place: Place, needs: Needs) -> dict[str, list[str]]:
    """Files of the indexes of gone contents, by their stem, the description first.

    The newest index of a needed table stays though its content is gone: with the rows that came since it
    still answers.
    """
    files = defaultdict(list)
    for name in place.names(INDEXES):
        if not name.startswith("."):
            files[PurePosixPath(name).stem].append(f"{INDEXES}/{name}")
    described = {stem: found for stem in files if (found := _sidecar(place, stem)) is not None}
    newest: dict[str, str] = {}
    for stem, one in sorted(described.items(), key=lambda item: (item[1].version, item[1].built)):
        newest[one.table] = stem
    kept = {newest[table] for table in needs.versions if table in newest}
    kept |= {stem for stem, one in described.items() if one.digest in needs.contents}
    return {
        stem: sorted(names, key=lambda name: (not name.endswith(".json"), name))
        for stem, names in sorted(files.items())
        if stem not in kept
    }


def checksums(place: Place, needs: Needs) -> list[str]:
    """Lists of checksums of table versions that nothing needs."""
    stems = [PurePosixPath(name).stem for name in place.names(sums.FOLDER)]
    return [sums.name_of(stem) for stem in stems if _SHA.fullmatch(stem) and stem not in needs.sums]


def damaged(place: Place) -> list[str]:
    """What was set aside as damaged, in the catalog and among the versions of tables."""
    folders = ["catalog", *(f"{TABLES}/{name}{_SUFFIX}/_versions" for name in tables(place))]
    found = [f"{folder}/{name}" for folder in folders for name in place.names(folder)]
    return [name for name in found if name.endswith(".damaged")]


def drafts(place: Place) -> Iterator[str]:
    """Files and folders that were being written; in a bucket there are none."""
    if isinstance(place, Folder):
        for path in sorted(place.local.rglob(".*")):
            if _DRAFT.fullmatch(path.name):
                yield path.relative_to(place.local).as_posix()


def age(place: Place, name: str, *, now: float) -> float | None:
    """Seconds since a file or folder last changed; None where that is not known."""
    if not isinstance(place, Folder):
        return None
    try:
        return now - (place.local / name).stat().st_mtime
    except FileNotFoundError:
        return None


def _by_age(names: Iterable[str]) -> list[tuple[str, str]]:
    """Domain and name of tables, newest first."""
    parsed = [found for name in names if (found := _TABLE.fullmatch(name))]
    return [(found["domain"], found[0]) for found in sorted(parsed, key=lambda one: -int(one["number"]))]


def _sidecar(place: Place, stem: str) -> sidecar.Sidecar | None:
    try:
        return sidecar.parse(place.read(f"{INDEXES}/{stem}.json"), stem=stem)
    except (FileNotFoundError, StoreCorruptError):
        return None
