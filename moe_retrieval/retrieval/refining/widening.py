"""Hits that say more: their text grows to the chunks beside them, their section, or their whole document.

Offsets stay true: a grown text is `document.text[start:end]`. Chunks of one section meet or overlap, and are
joined. What lies between two sections is white space that no chunk holds: where a text is to grow across it,
the source is read again, and used only if every chunk that it is joined from is found in it, in its place.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.corpus.readers import read_corpus
from moe_retrieval.corpus.walking import is_file
from moe_retrieval.errors import MoeretError
from moe_retrieval.retrieval.refining import stored
from moe_retrieval.types import GENERAL, Document, Widen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from moe_retrieval.retrieval.refining.stored import Piece
    from moe_retrieval.retrieval.snapshot import Snapshot
    from moe_retrieval.types import Hit

    Reread = Callable[[str, str], str | None]
    """The text of a document now, by source and id; None where it cannot be had."""

MOST_PIECES = 200
"""Chunks that one text grows to, at most: those around the hit."""

LARGEST_SOURCE = 16 * 2**20
"""Bytes of a file that is read again for the sake of white space."""


@dataclass(frozen=True, slots=True)
class Widened:
    """The hits, grown, and how many of them grew less than was asked, since a source cannot be read again."""

    hits: tuple[Hit, ...]
    short: int = 0


def widened(hits: Sequence[Hit], *, widen: Widen, snapshot: Snapshot, k: int) -> Widened:
    """The first `k` hits, grown, in their order. One whose text lies within that of a better hit is passed
    over for the next.
    """
    reread = rereading()
    kept: list[Hit] = []
    short = at = 0
    while at < len(hits) and len(kept) < k:
        wave = hits[at : at + k - len(kept)]
        at += len(wave)
        for hit, pieces in zip(wave, _pieces(wave, widen, snapshot), strict=True):
            grown, whole = grow(hit, pieces, widen=widen, reread=reread)
            if not any(_within(grown, better) for better in kept):
                kept.append(grown)
                short += not whole
    return Widened(tuple(kept), short)


def grow(hit: Hit, pieces: Sequence[Piece], *, widen: Widen, reread: Reread) -> tuple[Hit, bool]:
    """The hit with the text of `pieces`, chunks of its document in reading order, and whether it is all that
    `widen` asks for.
    """
    ordinal = stored.name_of(hit)[1]
    pieces = [
        piece for at, piece in enumerate(pieces) if piece.ordinal - ordinal == at - _own(pieces, ordinal)
    ]
    own = _own(pieces, ordinal)
    first, last = _reach(pieces, own, widen)
    wanted = pieces[first : last + 1]
    text = joined(wanted)
    if text is None and (source := reread(hit.source, hit.doc_id)) is not None:
        text = _sliced(source, wanted)
    if text is not None:
        return _grown(hit, wanted, text), True
    first, last = _run(pieces, own, first, last)
    run = pieces[first : last + 1]
    return _grown(hit, run, joined(run) or hit.text), False


def joined(pieces: Sequence[Piece]) -> str | None:
    """The text that chunks make where each meets or overlaps the one before; None where one does not."""
    text, end = pieces[0].text, pieces[0].end
    for piece in pieces[1:]:
        if piece.start > end:
            return None
        text += piece.text[end - piece.start :]
        end = max(end, piece.end)
    return text


def rereading() -> Reread:
    """Reads documents again, each source once."""
    known: dict[str, dict[str, str]] = {}

    def read(source: str, doc_id: str) -> str | None:
        if source not in known:
            known[source] = dict(_texts(source))
        return known[source].get(doc_id)

    return read


def _texts(source: str) -> Iterator[tuple[str, str]]:
    """Ids and texts of the documents of a file; of two with one id the first counts, as when it was read."""
    path = Path(source)
    if not path.is_absolute() or not is_file(path) or path.stat().st_size > LARGEST_SOURCE:
        return
    seen: set[str] = set()
    try:
        for item in read_corpus([source], domain=GENERAL, missing_ok=True):
            if isinstance(item, Document) and item.id not in seen:
                seen.add(item.id)
                yield item.id, item.text
    except (MoeretError, OSError):  # gone or changed meanwhile: then the text grows as far as chunks meet
        return


def _pieces(hits: Sequence[Hit], widen: Widen, snapshot: Snapshot) -> list[list[Piece]]:
    """For every hit, the chunks of its document that it may grow to, itself among them."""
    counts = stored.parts(hits, snapshot)
    ranges = [_around(stored.name_of(hit)[1], counts[hit.domain, hit.chunk_id], widen) for hit in hits]
    wanted: dict[tuple[str, int], set[int]] = defaultdict(set)
    for hit, places in zip(hits, ranges, strict=True):
        wanted[hit.domain, stored.name_of(hit)[0]].update(places)
    found = stored.pieces(wanted, snapshot)
    return [
        [piece for piece in found[hit.domain, stored.name_of(hit)[0]] if piece.ordinal in places]
        for hit, places in zip(hits, ranges, strict=True)
    ]


def _around(ordinal: int, parts: int, widen: Widen) -> range:
    """Places of the chunks that a hit may grow to."""
    reach = 1 if widen is Widen.NEIGHBOURS else MOST_PIECES // 2
    return range(max(0, ordinal - reach), min(parts, ordinal + reach + 1))


def _reach(pieces: Sequence[Piece], own: int, widen: Widen) -> tuple[int, int]:
    """First and last place of the chunks that a hit is to grow to."""
    if widen is Widen.PARENT:
        return 0, len(pieces) - 1
    home = (pieces[own].section, pieces[own].page)
    first = last = own
    while first > 0 and (pieces[first - 1].section, pieces[first - 1].page) == home:
        first -= 1
    while last + 1 < len(pieces) and (pieces[last + 1].section, pieces[last + 1].page) == home:
        last += 1
    return first, last


def _own(pieces: Sequence[Piece], ordinal: int) -> int:
    return next(at for at, piece in enumerate(pieces) if piece.ordinal == ordinal)


def _run(pieces: Sequence[Piece], own: int, low: int, high: int) -> tuple[int, int]:
    """First and last place of the chunks around `own` that meet each other."""
    first = last = own
    while first > low and pieces[first - 1].end >= pieces[first].start:
        first -= 1
    while last < high and pieces[last].end >= pieces[last + 1].start:
        last += 1
    return first, last


def _sliced(source: str, pieces: Sequence[Piece]) -> str | None:
    """The stretch from the first to the last chunk, if the source has every one in its place."""
    if any(source[piece.start : piece.end] != piece.text for piece in pieces):
        return None
    if any(source[one.end : other.start].strip() for one, other in pairwise(pieces)):
        return None
    return source[pieces[0].start : pieces[-1].end]


def _grown(hit: Hit, pieces: Sequence[Piece], text: str) -> Hit:
    first, start, end = pieces[0], pieces[0].start, max(piece.end for piece in pieces)
    if (start, end) == (hit.start, hit.end):
        return hit
    one = len({(piece.section, piece.page) for piece in pieces}) == 1
    section = hit.section if one else ""
    why = replace(hit.why, found=(hit.start, hit.end))
    return replace(hit, text=text, start=start, end=end, section=section, page=first.page, why=why)


def _within(hit: Hit, other: Hit) -> bool:
    same = (hit.source, hit.doc_id) == (other.source, other.doc_id)
    return same and other.start <= hit.start and hit.end <= other.end
