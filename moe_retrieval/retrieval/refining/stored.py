"""What a generation holds of hits beyond what they show: their vectors, the chunks beside them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.hashing import chunk_id, hash63
from moe_retrieval.storage.tables.rows import CONTENT, VECTOR, to_numpy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import pyarrow as pa

    from moe_retrieval.retrieval.snapshot import Snapshot
    from moe_retrieval.types import Hit

_PIECE = ("key", "start", "end", "section", "page", "lead", CONTENT)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stored chunk of a document: `text == document.text[start:end]`."""

    ordinal: int
    start: int
    end: int
    text: str
    section: str
    page: int | None


def key_of(hit: Hit) -> int:
    """The key of the hit's row in the table of its domain."""
    return hash63(hit.chunk_id.encode())


def name_of(hit: Hit) -> tuple[int, int]:
    """The key of the hit's document, and the place of its chunk among the document's."""
    document, ordinal = hit.chunk_id.split(".")
    return int(document, 16), int(ordinal)


def vectors(hits: Sequence[Hit], snapshot: Snapshot) -> list[np.ndarray]:
    """The stored vector of every hit, float32 (dim,): those of two domains may differ in width."""
    found: dict[tuple[str, str], np.ndarray] = {}
    for domain, part in _by_domain(hits):
        table = _fetched(snapshot, domain, _keys(part), columns=(VECTOR,))
        found |= {(domain, hit.chunk_id): row for hit, row in zip(part, to_numpy(table[VECTOR]), strict=True)}
    return [found[hit.domain, hit.chunk_id] for hit in hits]


def parts(hits: Sequence[Hit], snapshot: Snapshot) -> dict[tuple[str, str], int]:
    """How many chunks the document of each hit has, by domain and chunk id."""
    found: dict[tuple[str, str], int] = {}
    for domain, part in _by_domain(hits):
        counts = _fetched(snapshot, domain, _keys(part), columns=("parts",))
        pairs = zip(part, counts["parts"].to_pylist(), strict=True)
        found |= {(domain, hit.chunk_id): count for hit, count in pairs}
    return found


def pieces(
    wanted: Mapping[tuple[str, int], Collection[int]], snapshot: Snapshot
) -> dict[tuple[str, int], list[Piece]]:
    """Chunks of documents, by domain and document key, in reading order: those at the places `wanted`.

    A run that was killed leaves documents in parts: a chunk that is not there is left out.
    """
    found: dict[tuple[str, int], list[Piece]] = defaultdict(list)
    for domain in sorted({domain for domain, _ in wanted}):
        names = [
            (document, ordinal)
            for (home, document), places in wanted.items()
            if home == domain
            for ordinal in sorted(places)
        ]
        keys = np.array([hash63(chunk_id(*name).encode()) for name in names], np.int64)
        there = np.flatnonzero(_present(snapshot, domain, keys))
        rows = _fetched(snapshot, domain, keys[there], columns=_PIECE).to_pylist()
        for at, row in zip(there, rows, strict=True):
            document, ordinal = names[at]
            text = row[CONTENT][row["lead"] :]
            piece = Piece(ordinal, row["start"], row["end"], text, row["section"], row["page"])
            found[domain, document].append(piece)
    return dict(found)


def _by_domain(hits: Sequence[Hit]) -> Iterator[tuple[str, list[Hit]]]:
    groups: dict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        groups[hit.domain].append(hit)
    yield from sorted(groups.items())


def _keys(hits: Sequence[Hit]) -> np.ndarray:
    return np.array([key_of(hit) for hit in hits], np.int64)


def _fetched(snapshot: Snapshot, domain: str, keys: np.ndarray, *, columns: Sequence[str]) -> pa.Table:
    offsets = snapshot.index(domain).offsets(keys)
    return snapshot.view(domain).fetch(keys, offsets=offsets, columns=columns)


def _present(snapshot: Snapshot, domain: str, keys: np.ndarray) -> np.ndarray:
    """Which keys (n,) have a row."""
    offsets = snapshot.index(domain).offsets(keys)
    if offsets is None:
        return np.isin(keys, snapshot.view(domain).key_vh()[0])
    return np.asarray(offsets >= 0)
