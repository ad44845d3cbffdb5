"""The objects below one prefix of a bucket: whole reads, whole writes, and writes under a condition."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import MissingExtraError, StoreError
from moe_retrieval.storage.places.object_faults import object_faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from moe_retrieval.storage.places.aws_environment import AwsEnvironment

SHA256 = "moeret-sha256"
"""Kept with an object that was uploaded from a file: its sha256."""
_WRITER = "moeret-writer"
_PIECE = 8 << 20
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was read. `tag` changes with its content, `modified` is by the server's clock."""

    data: bytes
    tag: str
    modified: datetime


class Objects:
    """Names are relative to the prefix. A missing object is a FileNotFoundError, all else a StoreError."""

    def __init__(self, bucket: str, prefix: str, *, name: str, environment: AwsEnvironment) -> None:
        self.name = name
        endpoint = environment.shown_endpoint
        self._shown = f"{name} at {endpoint}" if endpoint else name
        self._small = _client(bucket, prefix, environment, seconds=15)
        self._large = _client(bucket, prefix, environment, seconds=1_800)

    def load(self, name: str) -> Stored:
        with self._faults(f"read {name}"):
            found = self._small.get(name)
            meta = found.meta
            return Stored(bytes(found.bytes()), str(meta["e_tag"]), meta["last_modified"])

    def create(self, name: str, data: bytes) -> str | None:
        """Create an object that must not exist yet; its tag, or None where it does."""
        from obstore.exceptions import AlreadyExistsError

        mine = {_WRITER: secrets.token_hex(16)}
        for _ in range(_ATTEMPTS):
            with self._faults(f"write {name}"):
                try:
                    return str(self._small.put(name, data, mode="create", attributes=mine)["e_tag"])
                except AlreadyExistsError:
                    pass
            try:
                with self._faults(f"read {name}"):
                    found = self._small.get(name, options={"head": True})
            except FileNotFoundError:
                continue  # deleted in between, or a conflict that the server wants tried again
            # a repeated request may have met what its first attempt made
            return str(found.meta["e_tag"]) if found.attributes.get(_WRITER) == mine[_WRITER] else None
        raise StoreError(
            f"could not write {name}: the server kept refusing ({self._shown})", hint="run it again"
        )

    def update(self, name: str, data: bytes, *, tag: str) -> str | None:
        """Replace the object that has this tag; the new tag, or None where it has another or is gone."""
        from obstore.exceptions import PreconditionError

        with self._faults(f"write {name}"):
            try:
                return str(self._small.put(name, data, mode={"e_tag": tag})["e_tag"])
            except (PreconditionError, FileNotFoundError):
                return None

    def put(self, name: str, data: bytes) -> None:
        with self._faults(f"write {name}"):
            self._small.put(name, data)

    def upload(self, name: str, path: Path, *, sha256: str) -> None:
        """Make a file an object, in parts if it is large; it appears whole."""
        with self._faults(f"write {name}"):
            self._large.put(name, path, attributes={SHA256: sha256})

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of an object, some megabytes at a time."""
        with self._faults(f"read {name}"):
            for piece in self._large.get(name).stream(min_chunk_size=_PIECE):
                yield bytes(piece)

    def sha256(self, name: str) -> str:
        """Hex sha256 of an object's bytes, read now."""
        digest = hashlib.sha256()
        for piece in self.pieces(name):
            digest.update(piece)
        return digest.hexdigest()

    def about(self, name: str) -> tuple[int, str]:
        """Size of an object, and the sha256 it was uploaded with, "" if that is not known."""
        with self._faults(f"read {name}"):
            found = self._small.get(name, options={"head": True})
            return int(found.meta["size"]), str(found.attributes.get(SHA256, ""))

    def modified(self, name: str) -> datetime:
        """When an object was written, by the server's clock."""
        with self._faults(f"read {name}"):
            when: datetime = self._small.head(name)["last_modified"]
            return when

    def children(self, folder: str) -> list[str]:
        """Base names of the objects and folders in a folder, sorted."""
        with self._faults(f"list {folder or 'the store'}"):
            found = self._small.list_with_delimiter(folder or None)
        paths = [*(str(one["path"]) for one in found["objects"]), *map(str, found["common_prefixes"])]
        return sorted({path.rstrip("/").rpartition("/")[2] for path in paths} - {""})

    def below(self, folder: str) -> list[str]:
        """Names of all objects below a folder."""
        with self._faults(f"list {folder}"):
            return sorted(str(one["path"]) for page in self._small.list(folder) for one in page)

    def remove(self, names: list[str]) -> None:
        """Delete objects; they may be missing."""
        with self._faults(f"delete {names[0] if len(names) == 1 else 'objects'}"):
            if names:
                self._small.delete(names)

    def move(self, name: str, to: str) -> None:
        with self._faults(f"rename {name}"):
            self._small.copy(name, to)
            self._small.delete(name)

    def _faults(self, doing: str) -> AbstractContextManager[None]:
        return object_faults(doing, place=self._shown)


def _client(bucket: str, prefix: str, environment: AwsEnvironment, *, seconds: int) -> Any:
    """A client that gives up: soon on a server that does not answer, on a request after so many seconds."""
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise MissingExtraError("obstore", extra="s3", purpose="a store in a bucket") from error
    options: Any = environment.options()
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=options,
        client_options={
            "allow_http": environment.allow_http,
            "connect_timeout": timedelta(seconds=4),
            "read_timeout": timedelta(seconds=10),
            "timeout": timedelta(seconds=seconds),
        },
        retry_config={
            "max_retries": 3,
            "retry_timeout": timedelta(seconds=20),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
    )
