"""The hashes that name things: documents, chunks, vectors, files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_retrieval.types import Document

_63_BITS = (1 << 63) - 1


def hash63(data: bytes) -> int:
    """blake2b cut to 63 bits: fits a signed 64-bit column, never negative (FAISS: -1 is "no result")."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") & _63_BITS


def document_key(source: str, doc_id: str) -> int:
    """Identity of a document: where it came from and its id there."""
    return hash63(f"{source}\0{doc_id}".encode())


def content_hash(document: Document, *, chunking: str) -> int:
    """Changes when the document's rows would: its text, title, sections, metadata, or how it is chunked."""
    sections = [(part.start, part.end, part.heading, part.page) for part in document.sections]
    parts = [document.text, document.title, sections, dict(document.metadata), chunking]
    return hash63(json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str).encode())


def chunk_id(doc_key: int, ordinal: int) -> str:
    """Name of the `ordinal`-th chunk of a document; the same on every machine that sees the same source."""
    return f"{doc_key:016x}.{ordinal}"


MOST_HOMES = 8
"""Domains that one document may lie in."""


def shared_hash(digest: int, homes: int) -> int:
    """What is stored as the hash of a document with this content hash that lies in so many domains.

    It is negative where they are several: such copies belong together, while two copies of a document of one
    domain are a move that was cut short. The number shows whether all of them were written.
    """
    return digest if homes < 2 else -1 - hash63(f"{digest}:{homes}".encode())


def homes_in(stored: int, digest: int) -> int:
    """In how many domains a document with this content hash lies, by its stored hash; 0: it is another's."""
    return next((homes for homes in range(1, MOST_HOMES + 1) if shared_hash(digest, homes) == stored), 0)


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verified_sha256(path: Path) -> str:
    """As `file_sha256`, remembered in the user's cache for as long as the file's folder entry says the same.

    Whoever writes to a file changes its times, and it is hashed again. Bits that rot on the disk change
    nothing there: reading every byte is what `moeret doctor --scrub` is for.
    """
    return remembered(path, _SHA256, lambda: file_sha256(path))


def remembered(path: Path, kind: str, compute: Callable[[], str]) -> str:
    """What `compute` makes of a file's bytes, remembered as `verified_sha256` is; `kind` names it."""
    found = path.stat()
    state = f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
    note = _note(path, kind)
    with contextlib.suppress(OSError, ValueError):
        known, check, text = note.read_text(encoding="utf8").split("\n", 2)
        if known == state and check == _check(text):
            return text
    text = compute()
    if time.time() - found.st_ctime > _SETTLED:
        _remember(note, "\n".join((state, _check(text), text)))
    return text


def forget_sha256(path: Path) -> None:
    """Have the bytes of a file hashed again when it is opened next: it was found to be damaged."""
    with contextlib.suppress(OSError):
        _note(path, _SHA256).unlink(missing_ok=True)


_SHA256 = "sha256"
_SETTLED = 2.0
"""Seconds since its last change after which a further change shows in a file's times for certain."""


def _check(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _note(path: Path, kind: str) -> Path:
    import platformdirs

    name = hashlib.blake2b(f"{kind}\0".encode() + os.fsencode(path.absolute()), digest_size=16).hexdigest()
    return platformdirs.user_cache_path("moeret") / "hashes" / name


def _remember(note: Path, text: str) -> None:
    temporary = note.with_name(f".{note.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_text(text, encoding="utf8")
        temporary.replace(note)
