"""Cut documents into chunks that fit the encoder, along sections, paragraphs and sentences."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.corpus.counting import TokenCounter, least
from moe_retrieval.errors import UsageError
from moe_retrieval.types import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from moe_retrieval.types import Document

    Span = tuple[int, int]

RULES = 1
"""Version of the rules below: raise it when a document would be cut otherwise, and all is written anew."""

SMALLEST = 16
WINDOW_CHARS = (
    16_384  # semchunk is handed at most this much at once, so that its cost stays linear in the text
)
MAX_GAP = 64  # whitespace between two chunks is carried along up to here, and left out beyond
CHARS_PER_TOKEN = (
    40  # a chunk holds at most this many characters per token it may have: bounds runs of spaces
)

_SENTENCE_START = re.compile(r"(?:(?<=[.!?])\s+|\n\s*)(?=\S)")
_WORD_START = re.compile(r"\s+(?=\S)")
_MARKUP = "#*_=- \t\n"


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of a document that is cut on its own: a section, a gap between two, or small ones joined."""

    start: int
    end: int
    heading: str
    page: int | None
    tokens: int


@dataclass(frozen=True, slots=True)
class _Leads:
    """What is embedded before a text that does not begin with it: the title, the section's heading."""

    title: str
    heading: str

    def before(self, text: str, *, opens: bool, heading: str) -> str:
        title = (
            "" if not self.title or text.lstrip(_MARKUP).startswith(self.title.rstrip("\n")) else self.title
        )
        last = heading.rsplit(" > ", 1)[-1]
        named = opens and text.lstrip(_MARKUP).startswith(last)
        return title + ("" if named else self.heading)


class Chunker:
    """Documents in, chunks of at most `max_tokens` tokens out, with what a chunk carries along (its `lead`).

    `count` gives the tokens of a text without special tokens. Chunks of one section overlap by up to
    `overlap` tokens (32, or a quarter of smaller chunks), from the beginning of a sentence where there is
    one. Small neighbouring sections share a chunk, and a document that fits is one chunk.

    Raises:
        UsageError: max_tokens is below 16, or overlap is negative or half of max_tokens or more.
    """

    def __init__(
        self, count: Callable[[str], int], *, max_tokens: int = 254, overlap: int | None = None
    ) -> None:
        if max_tokens < SMALLEST:
            raise UsageError(f"a chunk of {max_tokens} tokens is too small", hint=f"use at least {SMALLEST}")
        overlap = min(32, max_tokens // 4) if overlap is None else overlap
        if not 0 <= overlap < max_tokens / 2:
            raise UsageError(
                f"an overlap of {overlap} tokens does not go with chunks of {max_tokens}",
                hint=f"use 0 to {(max_tokens - 1) // 2}",
            )
        self.max_tokens = max_tokens
        self.overlap = overlap
        self._max_chars = max_tokens * CHARS_PER_TOKEN
        self._count = TokenCounter(count)

    @property
    def identity(self) -> str:
        """Part of a document's content hash: other chunks come out under another identity."""
        return f"semchunk/{self.max_tokens}/{self.overlap}/{RULES}"

    def chunk(self, document: Document) -> list[Chunk]:
        """The chunks of a document in reading order: `chunk.text == document.text[chunk.start:chunk.end]`.

        Every character that is not whitespace lies in a chunk; a document without any has no chunks.
        """
        title = self._cut(document.title)
        chunks: list[Chunk] = []
        for part in self._parts(document, title):
            leads = _Leads(title, "" if part.heading == document.title else self._cut(part.heading))
            for start, end in self._spans(document.text, part, leads):
                text = document.text[start:end]
                lead = leads.before(text, opens=start == part.start, heading=part.heading)
                chunks.append(
                    Chunk(
                        document.id, document.source, len(chunks), start, end, text,
                        title=document.title, section=part.heading, page=part.page, lead=lead,
                    )
                )  # fmt: skip
        return chunks

    # --- sections -> parts --------------------------------------------------------------------------------

    def _parts(self, document: Document, title: str) -> list[_Part]:
        pieces = [self._part(document.text, *piece) for piece in _pieces(document)]
        parts = [part for part in pieces if part is not None]
        room = self._room(title)
        whole = self._joined(document.text, parts) if parts else None
        if whole is None or self._fits(whole, room):
            return [] if whole is None else [whole]
        return self._merged(document.text, parts, room)

    def _part(self, text: str, start: int, end: int, heading: str, page: int | None) -> _Part | None:
        start, end = _trimmed(text, start, end)
        return _Part(start, end, heading, page, self._count(text[start:end])) if start < end else None

    def _fits(self, part: _Part, room: int) -> bool:
        return part.tokens <= room and part.end - part.start <= self._max_chars

    def _room(self, lead: str) -> int:
        """What the lead leaves for the text; a little less where their tokens may run into each other."""
        return self.max_tokens - self._count(lead) - (2 if lead and not self._count.exact else 0)

    def _merged(self, text: str, parts: Sequence[_Part], room: int) -> list[_Part]:
        """Join small neighbours of one page: a part joins the last if either is under a third of the room."""
        merged = [parts[0]]
        for part in parts[1:]:
            last = merged[-1]
            both = self._joined(text, [last, part])
            small = min(last.tokens, part.tokens) * 3 < room
            if small and last.page == part.page and self._fits(both, room):
                merged[-1] = both
            else:
                merged.append(part)
        return merged

    def _joined(self, text: str, parts: Sequence[_Part]) -> _Part:
        """One part from the first's start to the last's end, on the first's page."""
        if len(parts) == 1:
            return parts[0]
        start, end = parts[0].start, parts[-1].end
        heading = _shared_heading([part.heading for part in parts])
        return _Part(start, end, heading, parts[0].page, self._count(text[start:end]))

    # --- parts -> spans -----------------------------------------------------------------------------------

    def _spans(self, text: str, part: _Part, leads: _Leads) -> Iterator[Span]:
        """Spans of at most the room that the lead leaves; none begins with whitespace."""
        first = leads.before(text[part.start : part.start + 4096], opens=True, heading=part.heading)
        if self._fits(part, self._room(first)):
            yield part.start, part.end
            return
        room = self._room(leads.title + leads.heading)
        shared = min(self.overlap, room // 2)
        before = part.start
        for start, end in self._pieces(text, part, room - shared):
            begin = self._overlapped(text, before, start, shared)
            yield from self._checked(text, begin, end, room)
            before = start

    def _pieces(self, text: str, part: _Part, size: int) -> Iterator[Span]:
        """Tile a part with spans of at most `size` tokens; a short last one is evened out."""
        spans = list(_extended(text, self._windows(text, part, size), part.end))
        if len(spans) > 1 and self._count(text[slice(*spans[-1])]) * 3 < size:
            start, end = spans[-2][0], spans[-1][1]
            even = -(-self._count(text[start:end]) * 3 // 5)
            halves = list(_extended(text, self._semantic(text, start, end, min(even, size)), end))
            spans[-2:] = halves if len(halves) == 2 else spans[-2:]
        yield from spans

    def _windows(self, text: str, part: _Part, size: int) -> Iterator[Span]:
        """Spans of the part, window by window; a window's last span is cut again at the head of the next."""
        at = part.start
        while at < part.end:
            stop = min(at + max(WINDOW_CHARS, 2 * self._max_chars), part.end)
            spans = self._semantic(text, at, stop, size)
            kept = spans[:-1] if stop < part.end and len(spans) > 1 else spans
            yield from kept
            at = spans[len(kept)][0] if len(kept) < len(spans) else stop

    def _semantic(self, text: str, start: int, end: int, size: int) -> list[Span]:
        from semchunk.semchunk import chunk

        limit = self._max_chars  # characters count too: a run of spaces has no tokens

        def cost(piece: str) -> int:
            if len(piece) > limit or least(piece) > size:
                return size + 1
            tokens = self._count(piece)
            return tokens if len(piece) > 1 else min(tokens, size)  # a character is never cut

        _, offsets = chunk(text[start:end], size, cost, memoize=False, offsets=True)
        return [(start + first, start + last) for first, last in offsets]

    def _overlapped(self, text: str, before: int, start: int, tokens: int) -> int:
        """Where the chunk at `start` begins with its overlap: at a sentence if one fits, else at a word."""
        low = max(before, start - tokens * 8)
        if tokens == 0 or low >= start:
            return start
        for pattern in (_SENTENCE_START, _WORD_START):
            starts = [found.end() for found in pattern.finditer(text, low, start)]
            place = bisect_left(starts, -tokens, key=lambda at: -self._count(text[at:start]))
            if place < len(starts):
                return starts[place]
        return start

    def _checked(self, text: str, start: int, end: int, room: int) -> Iterator[Span]:
        """The span, or pieces of it, where its tokens are more than those it was put together from."""
        if self._count.exact or self._count(text[start:end]) <= room or end - start == 1:
            yield start, end
            return
        trimmed = start + len(text[start:end].rstrip())
        if trimmed < end:
            yield from self._checked(text, start, trimmed, room)
            return
        middle = text.rfind(" ", start, (start + end) // 2 + 1)
        middle = middle + 1 if middle > start else (start + end) // 2
        yield from self._checked(text, start, middle, room)
        yield from self._checked(text, middle, end, room)

    def _cut(self, text: str) -> str:
        """A title or heading as a line of the lead: at most a quarter of the tokens, cut at a word."""
        words = " ".join(text[: self._max_chars].split())
        limit = self.max_tokens // 4
        if self._count(words) > limit:
            starts = [found.start() for found in _WORD_START.finditer(words)] + [len(words)]
            place = bisect_left(starts, limit + 1, key=lambda at: self._count(words[:at]))
            words = words[: starts[place - 1]] if place else ""
        return words + "\n" if words else ""


def _pieces(document: Document) -> Iterator[tuple[int, int, str, int | None]]:
    """The sections in order and, so that no text is lost, what lies between them."""
    at, size = 0, len(document.text)
    for section in sorted(document.sections, key=lambda part: part.start):
        start, end = max(section.start, at), min(section.end, size)
        if at < start:
            yield at, min(start, size), "", None
        if start < end:
            yield start, end, section.heading, section.page
        at = max(at, end)
    if at < size:
        yield at, size, "", None


def _shared_heading(headings: Sequence[str]) -> str:
    """The beginning that nested headings have in common: `A` of `A > B` and `A > C`."""
    shared = headings[0].split(" > ")
    for heading in headings[1:]:
        path = heading.split(" > ")
        same = [mine == theirs for mine, theirs in zip(shared, path, strict=False)]
        shared = shared[: same.index(False) if False in same else len(same)]
    return " > ".join(shared)


def _trimmed(text: str, start: int, end: int) -> Span:
    body = text[start:end]
    return start + len(body) - len(body.lstrip()), end - (len(body) - len(body.rstrip()))


def _extended(text: str, spans: Iterator[Span] | Sequence[Span], end: int) -> Iterator[Span]:
    """Each span up to where the next begins, over whitespace of moderate length; the last one trimmed."""
    waiting: Span | None = None
    for span in spans:
        start = span[0] + len(text[slice(*span)]) - len(text[slice(*span)].lstrip())
        if waiting is not None:
            yield _reaching(text, waiting, start)
        waiting = (start, span[1])
    if waiting is not None:
        yield _trimmed(text, waiting[0], max(waiting[1], end))


def _reaching(text: str, span: Span, stop: int) -> Span:
    tight = _trimmed(text, span[0], stop)
    return (span[0], stop) if stop - tight[1] <= MAX_GAP else tight
