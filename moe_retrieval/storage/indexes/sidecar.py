"""What lies beside a FAISS file: what it was built from, how it is searched, and the checksums of its files.

The FAISS format has no checksum, and more than half of bit-flipped files load and search happily. So a file
is read only if its sha256 is the one recorded here, and a side-car only if it is named by its own content.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.storage.durability import file_faults, write_atomically
from moe_retrieval.storage.seal import sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

METRIC = "inner product"
LAYOUT = 2
"""Of the files. Those of layout 1 hold other rows files; they are passed over and superseded."""

INDEX, ROWS, _OLD_ROWS = ".faiss", ".npy", ".npz"
_KEPT = 2
"""Contents of a table whose index files are kept: the one just stored and the newest other."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Description of one index file over the rows of `table` at `version`.

    `positions`: places in the index, dead ones included (0: as many as rows). `added`: rows that came by
    refreshes since the whole was built. `unmeasured`: rows that came or went since `recall_at_10` was
    measured. `wanted`: the recall that was asked for.
    """

    table: str
    version: int
    digest: str
    fingerprint: str
    factory: str
    library: str
    rows: int
    dim: int
    parameters: Mapping[str, int]
    recall_at_10: float | None
    file_sha256: str
    rows_sha256: str
    bytes: int
    built: str
    positions: int = 0
    added: int = 0
    unmeasured: int = 0
    wanted: float = 0.0
    ms: float = 0.0
    layout: int = 1

    @property
    def name(self) -> str:
        """Names the files: the same content searched in the same way has the same name."""
        return file_name(self.digest, self.fingerprint, self.factory, self.library, layout=self.layout)

    @property
    def files(self) -> dict[str, str]:
        """sha256 of the described files, by their suffix."""
        return {INDEX: self.file_sha256, ROWS if self.layout >= LAYOUT else _OLD_ROWS: self.rows_sha256}


def file_name(digest: str, fingerprint: str, factory: str, library: str, *, layout: int = LAYOUT) -> str:
    """The stem of an index's files."""
    parts: list[str | int] = [digest, fingerprint, factory, METRIC, library]
    text = json.dumps(parts if layout < LAYOUT else [*parts, layout])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_all(folder: Path) -> list[Sidecar]:
    """All readable side-cars, newest content first. A damaged one is as good as none."""
    if not folder.is_dir():
        return []
    found = [one for path in sorted(folder.glob("*.json")) if (one := _read(path)) is not None]
    return sorted(found, key=_age, reverse=True)


def write(folder: Path, sidecar: Sidecar) -> None:
    """The last step of storing an index: only now do readers find it."""
    data = sealed(json.dumps(asdict(sidecar), indent=1, sort_keys=True))
    with file_faults("store the index"):
        write_atomically(folder / f"{sidecar.name}.json", data, durable=False)


def remove_superseded(folder: Path, *, by: Sidecar) -> None:
    """Delete the index files of all contents of its table but its own and the newest other.

    Those of other tables stay: one may be gone back to. `gc` removes them with their tables.
    """
    mine = [one for one in read_all(folder) if one.table == by.table and one.name != by.name]
    kept = {by.digest}
    for one in mine:
        if one.digest not in kept and len(kept) < _KEPT and one.layout == LAYOUT:
            kept.add(one.digest)
        elif one.digest == by.digest or one.digest not in kept:
            _remove(folder, one)


def _remove(folder: Path, one: Sidecar) -> None:
    with file_faults("remove an old index"):
        for suffix in (".json", *one.files):  # the description first: then no reader seeks the rest
            (folder / f"{one.name}{suffix}").unlink(missing_ok=True)


def _age(one: Sidecar) -> tuple[int, int, str]:
    number = one.table.rpartition(".g")[2]
    return (int(number) if number.isdigit() else 0, one.version, one.built)


def parse(data: bytes, *, stem: str) -> Sidecar:
    """The side-car of the index files that are named `stem`. Those of earlier versions have no seal.

    Raises:
        StoreCorruptError: it is not as it was written.
    """
    try:
        text = data.decode() if is_plain(data) else unsealed(data)
        values: dict[str, Any] = json.loads(text)
        names = {part.name for part in fields(Sidecar)}
        found = Sidecar(**{name: value for name, value in values.items() if name in names})
        named = found.name
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise StoreCorruptError(f"{stem}.json is damaged", hint="it is rebuilt") from error
    if named != stem:
        raise StoreCorruptError(f"{stem}.json is the side-car of another index", hint="it is rebuilt")
    return found


def is_plain(data: bytes) -> bool:
    """Whether it is a side-car without a seal: nothing follows the JSON object there."""
    return data.endswith(b"}")


def _read(path: Path) -> Sidecar | None:
    try:
        return parse(path.read_bytes(), stem=path.stem)
    except (OSError, StoreCorruptError):
        return None
