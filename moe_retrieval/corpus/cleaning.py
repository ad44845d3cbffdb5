"""Bytes to text, and text to the characters that offsets count."""

from __future__ import annotations

import codecs
import re

from moe_retrieval.errors import RejectedError

MOST_UNREADABLE = 0.1  # share of characters that decode to nothing; beyond, it is no text
MOST_FOREIGN = 0.2  # share of bytes above 127 in cp1252: no Western language has more, mis-read Cyrillic has

_MARKS = (  # the longer mark first: utf-32-le begins like utf-16-le
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LINES = re.compile(r"\r\n?|[\x0b\x0c]")  # vertical tab and form feed end a line or page
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_UNREADABLE = re.compile(r"[\x00-\x08\x0e-\x1f\ufffd]")


def clean(text: str) -> str:
    """The text with newlines as `\\n`, and no other control character but tab; else as it is (no NFC)."""
    if "\r" in text or "\x0b" in text or "\x0c" in text:
        text = _LINES.sub("\n", text)
    text = _CONTROLS.sub("", text)
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def decode(data: bytes) -> str:
    """The text of a file's bytes: by its byte order mark, else UTF-8, else Western European (cp1252).

    Raises:
        RejectedError: the bytes are no text, or text in an encoding that nothing names.
    """
    if (encoding := marked(data)) is not None:
        return readable(data.decode(encoding, errors="replace"))
    if b"\0" in data:
        raise RejectedError("binary data, not text")
    try:
        return readable(data.decode("utf-8"))
    except UnicodeDecodeError:
        return _guessed(data)


def marked(head: bytes) -> str | None:
    """The encoding that a byte order mark names."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def readable(text: str) -> str:
    """The text itself, if it is text at all."""
    if len(_UNREADABLE.findall(text)) > MOST_UNREADABLE * len(text):
        raise RejectedError("binary data, not text")
    return text


def mended(text: str) -> str:
    """A field that was decoded with `surrogateescape`: bytes that were not UTF-8 are read as cp1252."""
    if text.isascii() or _SURROGATES.search(text) is None:
        return text
    return decode(text.encode("utf-8", errors="surrogateescape"))


def _guessed(data: bytes) -> str:
    """Broken UTF-8 if most of its characters beyond ASCII are whole, else cp1252."""
    text = data.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    beyond = sum(1 for character in text if character > "\x7f") - broken
    if broken <= beyond:
        return readable(text)
    if len(data) - len(data.translate(None, bytes(range(128, 256)))) > MOST_FOREIGN * len(data):
        raise RejectedError("text in an unknown encoding; convert it to UTF-8")
    return readable(data.decode("cp1252", errors="replace"))
