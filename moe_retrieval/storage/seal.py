"""Text that carries its own checksum: what it says in front, then one line with the sha256 of that."""

from __future__ import annotations

import hashlib


def sealed(text: str) -> bytes:
    """The bytes to store."""
    return f"{text}\n{_sha256(text)}\n".encode()


def unsealed(data: bytes) -> str:
    """The text of stored bytes.

    Raises:
        ValueError: they are not as they were written.
    """
    text, _, _ = data.decode().removesuffix("\n").rpartition("\n")
    if sealed(text) != data:
        raise ValueError("its checksum does not match its content")
    return text


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
