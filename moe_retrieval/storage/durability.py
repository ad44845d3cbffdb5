"""Writing files so that they are whole or absent, and staying so when the power goes.

Lance makes no fsync on a local disk: a commit that returned may still be in the page cache. What makes a
generation durable is one `syncfs` before it is published; what makes a single file whole is a unique
temporary file, an fsync, and one atomic step (`rename` to replace, `link` to create only if absent).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import sys
from typing import TYPE_CHECKING

from moe_retrieval.errors import StoreError, StoreFullError, StoreReadOnlyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}
_NEXT_TO_NOTHING = 1 << 20  # bytes
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


def file_error(error: OSError, *, doing: str) -> StoreError:
    """The typed error a failed file operation stands for; `doing` completes "could not ..."."""
    place = f" ({error.filename})" if error.filename else ""
    if error.errno in _FULL:
        return StoreFullError(
            f"could not {doing}: the disk is full{place}", hint="free some space and run it again"
        )
    if error.errno in _READ_ONLY:
        return StoreReadOnlyError(
            f"could not {doing}: permission denied{place}", hint="check who owns the store's folder"
        )
    reason = error.strerror or type(error).__name__
    return StoreError(f"could not {doing}: {reason}{place}", hint="check the disk and run it again")


def cut_short(path: Path, *, doing: str) -> StoreError:
    """The error for a file whose last bytes are missing although nobody heard of a failed write.

    So it is where a library does not look at how closing a file ended.
    """
    if shutil.disk_usage(path.parent).free < _NEXT_TO_NOTHING:
        return file_error(OSError(errno.ENOSPC, "", str(path)), doing=doing)
    return StoreError(
        f"could not {doing}: {path.name} did not reach the disk whole",
        hint="check the disk and its free space, then run it again",
    )


@contextlib.contextmanager
def file_faults(doing: str) -> Iterator[None]:
    """Turn an OSError of the block into the typed error it stands for."""
    try:
        yield
    except OSError as error:
        raise file_error(error, doing=doing) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (not only the bytes of the files)."""
    if sys.platform == "win32":  # a folder cannot be opened there, and NTFS journals names itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_filesystem(folder: Path) -> None:
    """Write out all that is pending on the file system of `folder`: 5 ms, less than one fsync per file."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None
    if syncfs is None:
        if hasattr(os, "sync"):
            os.sync()
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(handle) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(handle)


def write_atomically(path: Path, data: bytes, *, durable: bool = True, mode: int = 0o600) -> None:
    """Replace or create `path` in one step: a reader sees the old bytes, the new ones, never some of both."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = _write_aside(path, data, durable=durable, mode=mode)
    try:
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def put_if_absent(path: Path, data: bytes, *, durable: bool = True, mode: int = 0o600) -> bool:
    """Create `path` with all of `data`, or leave what is there: False means somebody else was first."""
    temporary = _write_aside(path, data, durable=durable, mode=mode)
    try:
        created = _link(temporary, path)
        if created and durable:
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return created


def temporary_name(path: Path) -> Path:
    """A name beside `path` that nobody else uses; sharing one, writers rename each other's half files."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def replace_file(temporary: Path, path: Path) -> None:
    """Give a file that was written under a temporary name its own, its bytes on the disk first."""
    handle = os.open(temporary, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(path)


def _write_aside(path: Path, data: bytes, *, durable: bool, mode: int) -> Path:
    temporary = temporary_name(path)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _link(temporary: Path, path: Path) -> bool:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _claim(temporary, path)
    return True


def _claim(temporary: Path, path: Path) -> bool:
    """For file systems without hard links: claim the name by an exclusive create, then rename over it."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    temporary.replace(path)
    return True
