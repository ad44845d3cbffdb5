"""What lies beside a FAISS file: which rows it holds, what it was built from, and the checksums of both.

The FAISS format has no checksum, and more than half of bit-flipped files load and search happily. So a file
is read only if its sha256 is the one recorded here, and a side-car only if it is named by its own content.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.hashing import file_sha256
from moe_retrieval.storage.durability import file_faults, replace_file, temporary_name, write_atomically
from moe_retrieval.storage.seal import sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

METRIC = "inner product"
_KEPT = 2
"""Contents of a domain whose index files are kept: the one just stored and the newest other."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Description of one index file. Position i of the index is row offset i of `table` at `version`."""

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

    @property
    def name(self) -> str:
        """Names the files: the same content searched in the same way has the same name."""
        return file_name(self.digest, self.fingerprint, self.factory, self.library)

    @property
    def domain(self) -> str:
        return self.table.rpartition(".g")[0]


def file_name(digest: str, fingerprint: str, factory: str, library: str) -> str:
    """The stem of an index's files."""
    parts = json.dumps([digest, fingerprint, factory, METRIC, library])
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


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


def write_rows(path: Path, *, keys: np.ndarray, hashes: np.ndarray) -> str:
    """Store the keys and vector hashes of an index's rows; the file's sha256 comes back."""
    temporary = temporary_name(path)
    with file_faults("store the index"):
        with temporary.open("wb") as stream:
            np.savez(stream, keys=keys, hashes=hashes)
        digest = file_sha256(temporary)
        replace_file(temporary, path)
    return digest


def read_rows(path: Path, *, sha256: str) -> tuple[np.ndarray, np.ndarray]:
    """Keys and vector hashes (int64) in the order of the index.

    Raises:
        StoreCorruptError: the file is not the one that was written.
    """
    check(path, sha256)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["keys"], stored["hashes"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StoreCorruptError(f"{path.name} cannot be read", hint="it is rebuilt") from error


def check(path: Path, sha256: str) -> None:
    """Refuse a file whose bytes are not those that were written."""
    try:
        intact = file_sha256(path) == sha256
    except OSError as error:
        raise StoreCorruptError(
            f"{path.name} cannot be read: {error.strerror}", hint="it is rebuilt"
        ) from error
    if not intact:
        raise StoreCorruptError(f"{path.name} is damaged", hint="it is rebuilt")


def remove_superseded(folder: Path, *, by: Sidecar) -> None:
    """Delete the index files of all contents of its domain but its own and the newest others."""
    mine = [one for one in read_all(folder) if one.domain == by.domain]
    kept = {by.digest}
    for one in mine:
        if len(kept) < _KEPT:
            kept.add(one.digest)
        if one.digest in kept:
            continue
        with file_faults("remove an old index"):
            for suffix in (".json", ".npz", ".faiss"):  # the description first: then no reader seeks the rest
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
