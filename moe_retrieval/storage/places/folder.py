"""A store in a folder of this machine."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any

from moe_retrieval.hashing import file_sha256
from moe_retrieval.storage.durability import (
    file_error,
    file_faults,
    put_if_absent,
    sync_filesystem,
    write_atomically,
)
from moe_retrieval.storage.engine import connect, lance
from moe_retrieval.storage.places.lease import hold
from moe_retrieval.storage.places.place import TABLES
from moe_retrieval.storage.tables.recovery import set_torn_versions_aside

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pyarrow as pa


class Folder:
    """The `Place` of a store on a local disk."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.local = path
        self.durable = durable
        self.name = str(path)

    def read(self, name: str) -> bytes:
        try:
            return (self.local / name).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise file_error(error, doing=f"read {name}") from error

    def names(self, folder: str) -> list[str]:
        path = self.local / folder
        with file_faults(f"list {path}"):
            return sorted(one.name for one in path.iterdir()) if path.is_dir() else []

    def size(self, name: str) -> int:
        return (self.local / name).stat().st_size

    def sha256(self, name: str) -> str:
        return file_sha256(self.local / name)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        path = self.local / name
        with file_faults(f"write {name}"):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return put_if_absent(path, data, durable=self.durable)

    def replace(self, name: str, data: bytes, *, lasting: bool = True) -> None:
        with file_faults(f"write {name}"):
            write_atomically(self.local / name, data, durable=self.durable and lasting)

    def remove(self, name: str) -> None:
        with file_faults(f"delete {name}"):
            (self.local / name).unlink(missing_ok=True)

    def remove_tree(self, name: str) -> None:
        path = self.local / name
        with file_faults(f"delete {name}"):
            if path.is_dir():
                shutil.rmtree(path)

    def set_aside(self, name: str) -> None:
        path = self.local / name
        with file_faults(f"set {name} aside"), contextlib.suppress(FileNotFoundError):  # another was faster
            path.rename(path.with_name(f"{path.name}.damaged"))

    def settle(self) -> None:
        if self.durable:
            with file_faults(f"write {self.name} to the disk"):
                sync_filesystem(self.local)

    def lease(self, *, wait: float = 0.0) -> AbstractContextManager[None]:
        return hold(self.local / "lock", wait=wait)

    def fetch(self, name: str) -> Path:
        return self.local / name

    def share(self, name: str) -> None:
        """Nothing: what is below the folder is part of the store."""

    def mend(self, table: str, *, acknowledged: int) -> None:
        with file_faults(f"repair table {table}"):
            set_torn_versions_aside(self, table, acknowledged=acknowledged)

    def dataset(self, table: str, *, version: int | None = None) -> Any:
        return lance().dataset(str(self._table(table)), version=version)

    def create_dataset(self, table: str, rows: pa.Table) -> None:
        lance().write_dataset(rows, str(self._table(table)), schema=rows.schema)

    def lancedb(self) -> Any:
        return connect(self.local / TABLES)

    def _table(self, name: str) -> Path:
        return self.local / TABLES / f"{name}.lance"
