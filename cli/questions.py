"""What is asked: the words of an argument, standard input, or a file of queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_retrieval.errors import UsageError
from moeret_cli import options

if TYPE_CHECKING:
    from pathlib import Path


def read_text(text: str | None, *, hint: str) -> str:
    """The question, from standard input for `-`; without one, `hint` says how to give it."""
    if text is None:
        raise UsageError("there is nothing to look for", hint=hint)
    if text == "-":
        text = _decoded(options.stdin().read())
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # bytes of the terminal that are no UTF-8
        raise UsageError(
            "the query is not valid UTF-8", hint="write it in a terminal set to UTF-8, or pipe it in"
        )
    if not text.strip():
        raise UsageError("the query is empty", hint=hint)
    return text


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not valid UTF-8: {error}", hint="iconv -t utf-8") from error


def read_queries(path: Path) -> dict[str, str]:
    """Texts by id from a file of JSON lines, or from standard input for `-`."""
    from moe_retrieval.corpus.queries import read_queries as read

    return read(path, stdin=options.stdin())
