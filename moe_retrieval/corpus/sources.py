"""What a format reader is given: one open file, and the limits it must keep to."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from moe_retrieval.errors import RejectedError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file, record or document may weigh; beyond, it is rejected, never cut."""

    file_bytes: int = 100_000_000  # formats that are read as a whole; the streamed ones have no limit
    record_bytes: int = 20_000_000  # one line, row or article of a streamed format
    text_chars: int = 50_000_000
    archive_members: int = 10_000  # a docx is a zip archive
    archive_bytes: int = 200_000_000
    archive_ratio: int = 100
    pages: int = 20_000
    nesting: int = 10_000  # open elements of HTML; its parser's time grows with the square of the depth
    elements: int = 2_000_000  # of one XML record

    def check_file(self, size: int) -> None:
        if size > self.file_bytes:
            raise RejectedError(f"larger than {self.file_bytes:,} bytes")

    def check_record(self, size: int) -> None:
        if size > self.record_bytes:
            raise RejectedError(f"a record larger than {self.record_bytes:,} bytes")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An open file: `source` is what its documents record, `name` its last component, `size` in bytes.

    A record without an id is named by its number in a file, and by its content in a pipe: the first record
    of the next pipe is another one.
    """

    source: str
    name: str
    stream: BinaryIO
    size: int
    numbered: bool = True


def open_regular(path: Path) -> tuple[BinaryIO, int]:
    """The file's stream and size.

    Raises:
        RejectedError: it is no regular file; checked on what was opened, so nothing can take its place.
        OSError: it cannot be opened. A link in the last component is not followed, a FIFO does not block.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise RejectedError("not a regular file")
    return os.fdopen(handle, "rb"), status.st_size


def short(error: Exception) -> str:
    """The first line of what a parser says, for the reason of a rejection."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
