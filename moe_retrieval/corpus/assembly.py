"""Put a document together from blocks: text, offsets and sections that fit each other."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moe_retrieval.corpus.cleaning import clean
from moe_retrieval.types import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADING = re.compile(r"\s+")


@dataclass(slots=True)
class Assembly:
    """Collects blocks; `text` and `sections` come out at the end. Blocks are separated by an empty line."""

    _parts: list[str] = field(default_factory=list)
    _starts: list[tuple[int, str, int | None]] = field(default_factory=lambda: [(0, "", None)])
    _length: int = 0

    def begin(self, heading: str = "", *, page: int | None = None) -> None:
        """What follows is a new section."""
        self._starts.append((self._length, heading, page))

    def add(self, block: str) -> None:
        """Append a block of text; an empty one leaves no trace."""
        block = clean(block).strip()
        if block:
            self._parts.append(block)
            self._length += len(block) + 2

    @property
    def size(self) -> int:
        """Characters so far."""
        return max(self._length - 2, 0)

    @property
    def text(self) -> str:
        return "\n\n".join(self._parts)

    @property
    def sections(self) -> tuple[Section, ...]:
        """The sections that hold any text; none if all of it stands before the first heading, on no page."""
        return spans_to_sections(self._starts, size=self.size)


def spans_to_sections(starts: Sequence[tuple[int, str, int | None]], *, size: int) -> tuple[Section, ...]:
    """Sections by where each begins, its heading and page; each ends where the next begins, empty ones go."""
    ends = [start for start, _, _ in starts[1:]] + [size]
    spans = zip(starts, ends, strict=False)
    found = tuple(
        Section(start, min(end, size), heading, page) for (start, heading, page), end in spans if start < end
    )
    return found if any(part.heading or part.page is not None for part in found) else ()


class HeadingPath:
    """Joins nested headings: `Methods > Sampling`. The document's title stands above them and is left out."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []

    def enter(self, level: int, heading: str) -> str:
        """The path of a heading of `level` (1 is the highest) that comes after the ones before."""
        self._path = [step for step in self._path if step[0] < level]
        self._path.append((level, one_line(heading)))
        return " > ".join(name for _, name in self._path if name)

    def clear(self) -> None:
        self._path = []


def one_line(text: str) -> str:
    """The text in one line, its whitespace runs as single spaces."""
    return _HEADING.sub(" ", clean(text)).strip()
