"""A store in a bucket of an S3-compatible object store, and a folder of this machine for what must be local.

An object appears whole and is durable once its write returns: there is nothing to sync, and no torn version
to set aside. Experts, routers and FAISS files are read from a local copy, which is compared by sha256 with
what was uploaded whenever it is asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import StoreCorruptError, UsageError
from moe_retrieval.hashing import verified_sha256
from moe_retrieval.storage.durability import file_faults, replace_file, temporary_name
from moe_retrieval.storage.engine import lance
from moe_retrieval.storage.places.aws_environment import AwsEnvironment, aws_environment
from moe_retrieval.storage.places.object_lease import SECONDS, ObjectLease
from moe_retrieval.storage.places.objects import Objects
from moe_retrieval.storage.places.place import TABLES

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import pyarrow as pa

_SCHEME = "s3://"
_PART = re.compile(r"[A-Za-z0-9._=-]+")  # what the client and the engine spell alike
_NOT_SHARED = (".tmp", ".damaged")


class Bucket:
    """The `Place` of a store in a bucket."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        local: Path,
        environment: AwsEnvironment,
        lease_seconds: float = SECONDS,
    ) -> None:
        self.name = _SCHEME + "/".join(part for part in (bucket, prefix) if part)
        self.durable = True
        self.local = local
        self._objects = Objects(bucket, prefix, name=self.name, environment=environment)
        self._lease = ObjectLease(self._objects, seconds=lease_seconds)
        http = {"allow_http": "true"} if environment.allow_http else {}
        self._options = environment.options() | http

    @classmethod
    def open(cls, url: str, *, cache: Path | None = None) -> Bucket:
        """The store at `s3://bucket/prefix`; the AWS variables say where that is and who asks.

        `cache`: folder for local copies; not given: the user's cache.

        Raises:
            UsageError: the URL names no bucket, or a path that cannot be one.
            SettingsError: the AWS variables make no sense.
            MissingExtraError: obstore is not installed.
        """
        bucket, prefix = _parse(url)
        environment = aws_environment()
        place = f"{environment.shown_endpoint} {bucket} {prefix}"
        local = _cache(cache) / hashlib.sha256(place.encode()).hexdigest()[:32]
        return cls(bucket, prefix, local=local, environment=environment)

    def read(self, name: str) -> bytes:
        return self._objects.load(name).data

    def names(self, folder: str) -> list[str]:
        return self._objects.children(folder)

    def size(self, name: str) -> int:
        return self._objects.about(name)[0]

    def sha256(self, name: str) -> str:
        return self._objects.sha256(name)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        self._lease.check()
        return self._objects.create(name, data) is not None

    def replace(self, name: str, data: bytes, *, lasting: bool = True) -> None:
        """Replace an object; it always lasts."""
        self._lease.check()
        self._objects.put(name, data)

    def remove(self, name: str) -> None:
        self._lease.check()
        self._objects.remove([name])
        self._forget(name)

    def remove_tree(self, name: str) -> None:
        self._lease.check()
        self._objects.remove(self._objects.below(name))
        self._forget(name)

    def set_aside(self, name: str) -> None:
        self._lease.check()
        self._objects.move(name, f"{name}.damaged")

    def settle(self) -> None:
        """Nothing: an object is durable once it is written."""

    def mend(self, table: str, *, acknowledged: int) -> None:
        """Nothing: no write leaves a torn object."""

    def lease(self, *, wait: float = 0.0) -> AbstractContextManager[None]:
        return self._lease.hold(wait=wait)

    def fetch(self, name: str) -> Path:
        path = self.local / name
        if not path.is_dir() and self._bring(name):
            return path
        for inside in self._objects.below(name):
            self._bring(inside)
        return path

    def share(self, name: str) -> None:
        self._lease.check()
        path = self.local / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not file.name.startswith(".") and file.suffix not in _NOT_SHARED:
                self._upload(file.relative_to(self.local).as_posix(), file)

    def dataset(self, table: str, *, version: int | None = None) -> Any:
        if version is None:  # what is written is written to the latest
            self._lease.check()
        return lance().dataset(self._url(table), version=version, storage_options=self._options)

    def create_dataset(self, table: str, rows: pa.Table) -> None:
        self._lease.check()
        lance().write_dataset(rows, self._url(table), schema=rows.schema, storage_options=self._options)

    def lancedb(self) -> Any:
        self._lease.check()
        os.environ.setdefault("LANCE_LOG", "error")
        import lancedb

        up_to_date = timedelta(0)  # the default handle is a snapshot
        return lancedb.connect(
            f"{self.name}/{TABLES}", read_consistency_interval=up_to_date, storage_options=self._options
        )

    def _url(self, table: str) -> str:
        return f"{self.name}/{TABLES}/{table}.lance"

    def _forget(self, name: str) -> None:
        """Drop the local copy of what was deleted."""
        path = self.local / name
        with file_faults(f"delete {name}"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _bring(self, name: str) -> bool:
        """Make sure that the local copy of an object is that object; False if there is no such object."""
        try:
            size, sha256 = self._objects.about(name)
        except FileNotFoundError:
            return False
        path = self.local / name
        with file_faults(f"keep a copy of {name}"):
            if not path.is_file() or path.stat().st_size != size or sha256 not in ("", verified_sha256(path)):
                self._download(name, path, sha256=sha256)
        return True

    def _download(self, name: str, path: Path, *, sha256: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary, digest = temporary_name(path), hashlib.sha256()
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                for piece in self._objects.pieces(name):
                    digest.update(piece)
                    stream.write(piece)
            if sha256 not in ("", digest.hexdigest()):
                raise StoreCorruptError(
                    f"{self.name}/{name} is damaged: its sha256 is not the one it was uploaded with",
                    hint="moeret doctor --repair",
                )
            replace_file(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _upload(self, name: str, file: Path) -> None:
        with file_faults(f"share {name}"):
            size, sha256 = file.stat().st_size, verified_sha256(file)
        try:
            present = self._objects.about(name) == (size, sha256)
        except FileNotFoundError:
            present = False
        if not present:
            self._objects.upload(name, file, sha256=sha256)


def _parse(url: str) -> tuple[str, str]:
    """Bucket and prefix of a URL."""
    bucket, _, prefix = url.removeprefix(_SCHEME).rstrip("/").partition("/")
    parts = prefix.split("/") if prefix else []
    plain = all(_PART.fullmatch(part) and part.strip(".") for part in (bucket, *parts))
    if not url.startswith(_SCHEME) or not plain:
        hint = "write s3://bucket/prefix, with letters, digits and . _ = - between the slashes"
        raise UsageError(f"{url!r} names no place in a bucket", hint=hint)
    return bucket, prefix


def _cache(folder: Path | None) -> Path:
    if folder is None:
        import platformdirs

        folder = platformdirs.user_cache_path("moeret")
    return folder.expanduser().absolute() / "stores"
