"""Where a store lies: what the rest of the storage room asks of a folder or of a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pyarrow as pa

MARKER, SECRET = "store.json", "secret"
"""Files of a store that there is one of: what makes a place a store, and what fences are made with."""

TABLES = "tables"
"""Folder of the Lance tables, below the store."""


SCHEME = "s3://"


def is_url(path: str | Path) -> bool:
    """Whether a store's path is that of a bucket."""
    return str(path).startswith(SCHEME)


class Place(Protocol):
    """The files of one store. Names are relative to it, with `/` between folders.

    Small files are read and written whole. A file that exists is whole: nothing half-written has its name.
    Failures are errors of the store (`StoreError`), but for a missing file, which is a FileNotFoundError.
    """

    name: str
    """What people call it: a path, or a URL."""
    durable: bool
    """Whether what was written survives a power cut once it is acknowledged."""
    local: Path
    """The folder that holds experts/, routers/ and indexes/: the store itself, or a cache of a bucket."""

    def read(self, name: str) -> bytes: ...

    def names(self, folder: str) -> list[str]:
        """Names in a folder, without it, sorted; none where there is no such folder."""
        ...

    def size(self, name: str) -> int: ...

    def sha256(self, name: str) -> str:
        """Hex sha256 of a file's bytes, read now."""
        ...

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Create a file with all of `data`; False, and nothing done, where it exists already."""
        ...

    def replace(self, name: str, data: bytes, *, lasting: bool = True) -> None:
        """Create or replace a file in one step. `lasting`: it is on the disk when this returns."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file; it may be missing."""
        ...

    def remove_tree(self, name: str) -> None:
        """Delete a folder and all in it; it may be missing."""
        ...

    def set_aside(self, name: str) -> None:
        """Give a damaged file a name under which nothing looks for it."""
        ...

    def settle(self) -> None:
        """Bring all that was written to the disk, so that a generation does not outlive its rows."""
        ...

    def lease(self, *, wait: float = 0.0) -> AbstractContextManager[None]:
        """The right to write, for the length of a `with` block.

        Raises:
            StoreBusyError: another process still has it after `wait` seconds; the message says which.
        """
        ...

    def fetch(self, name: str) -> Path:
        """The local path of a file or folder of experts/, routers/ or indexes/, brought here if need be."""
        ...

    def share(self, name: str) -> None:
        """Make a file or folder that was written below `local` part of the store."""
        ...

    def dataset(self, table: str, *, version: int | None = None) -> Any:
        """The Lance dataset of a table, at its latest version or another."""
        ...

    def mend(self, table: str, *, acknowledged: int) -> None:
        """Set aside what a power cut left torn of the versions above `acknowledged`."""
        ...

    def create_dataset(self, table: str, rows: pa.Table) -> None:
        """A new Lance dataset that holds `rows`."""
        ...

    def lancedb(self) -> Any:
        """A LanceDB connection to the tables."""
        ...
