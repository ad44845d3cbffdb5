r"""Patterns of `like` as the engine wants them: `%` any characters, `_` one; `\%`, `\_`, `\\` themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SEPARATOR = "\x1f"
"""Between the members of a list matched as one text. A list with a member that holds it fits no pattern."""

_PIECE = re.compile(r"\\([%_\\])|(.)", re.DOTALL)
_ANY, _ONE = "%", "_"


def like_pattern(pattern: str) -> str:
    """For the engine's LIKE, where a backslash always takes the next character as it is."""
    return "".join(piece if wild else re.sub(r"([%_\\])", r"\\\1", piece) for piece, wild in _pieces(pattern))


def member_regex(pattern: str) -> str:
    """A regular expression that finds a whole member in a joined list."""
    inner = {_ANY: f"[^{SEPARATOR}]*", _ONE: f"[^{SEPARATOR}]"}
    body = "".join(inner[piece] if wild else _escaped(piece) for piece, wild in _pieces(pattern))
    return f"(^|{SEPARATOR}){body}($|{SEPARATOR})"


def _pieces(pattern: str) -> Iterator[tuple[str, bool]]:
    """The characters of a pattern, and whether each is a wild card."""
    for escaped, plain in _PIECE.findall(pattern):
        yield (escaped, False) if escaped else (plain, plain in (_ANY, _ONE))


def _escaped(character: str) -> str:
    """As a code point, so that no character can mean anything."""
    return f"\\x{{{ord(character):x}}}"
