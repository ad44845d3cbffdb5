"""What a store must answer, worked out the plain way: a dictionary of documents, every score computed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from storage_builders import key_of, rows_of

from moe_retrieval.hashing import chunk_id, hash63

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from moe_retrieval.storage.tables.rows import Row
    from moe_retrieval.types import MetaValue

DIM = 8
WORDS = ("heart", "lung", "worm", "cell", "drug", "fever")


@dataclass(frozen=True)
class Doc:
    """One document: its chunks and its metadata."""

    texts: tuple[str, ...]
    year: int
    tag: str = ""
    extra: str = ""
    """Name of a further field, of which a table gets many."""

    def metadata(self) -> dict[str, MetaValue]:
        said: dict[str, MetaValue] = {"year": self.year}
        return said | ({"tag": self.tag} if self.tag else {}) | ({self.extra: True} if self.extra else {})

    def rows(self, name: str) -> list[Row]:
        return rows_of(name, self.texts, doc_hash=hash63(repr(self).encode()), metadata=self.metadata())


@dataclass(frozen=True)
class Hit:
    """One row that a search may give."""

    key: int
    doc: str
    text: str
    score: float


@dataclass
class Content:
    """What one table holds at one moment. `space`: number of the encoder its vectors are of.

    `fresh`: no row was deleted or replaced since the table was made, and its text index holds all rows: only
    then are the counts that BM25 goes by those of the rows that are there.
    """

    docs: dict[str, Doc] = field(default_factory=dict)
    space: int = 0
    fresh: bool = True
    deleted: bool = False

    def copy(self) -> Content:
        return Content(dict(self.docs), self.space, self.fresh, self.deleted)

    def chunks(self) -> Iterator[tuple[int, str, str, Doc]]:
        """Key, document, text and document's content of every row."""
        for name, doc in self.docs.items():
            for ordinal, text in enumerate(doc.texts):
                yield hash63(chunk_id(key_of(name), ordinal).encode()), name, text, doc

    def nearest(self, query: np.ndarray, *, where: Callable[[Doc], bool]) -> list[Hit]:
        """All rows, best first by cosine; equal scores by key."""
        hits = [
            Hit(key, name, text, float(query @ vector_of(text, self.space)))
            for key, name, text, doc in self.chunks()
            if where(doc)
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.key))

    def by_words(self, query: str, *, where: Callable[[Doc], bool]) -> list[Hit]:
        """All rows with a word of the query, best first by BM25 (Robertson, Zaragoza 2009; k1 1.2, b .75)."""
        rows = [(key, name, text, doc, Counter(text.split())) for key, name, text, doc in self.chunks()]
        mean = sum(sum(counts.values()) for *_, counts in rows) / max(1, len(rows))
        hits = []
        for key, name, text, doc, counts in rows:
            score = 0.0
            for word in query.split():
                having = sum(word in other for *_, other in rows)
                rarity = math.log(1 + (len(rows) - having + 0.5) / (having + 0.5))
                long = 1.2 * (0.25 + 0.75 * sum(counts.values()) / mean)
                score += rarity * counts[word] * 2.2 / (counts[word] + long)
            if score and where(doc):
                hits.append(Hit(key, name, text, score))
        return sorted(hits, key=lambda hit: (-hit.score, hit.key))


@lru_cache(maxsize=100_000)
def vector_of(text: str, space: int) -> np.ndarray:
    """A unit vector, float32 (dim,), by text and encoder; equal texts have equal ones."""
    vector = np.random.default_rng(hash63(f"{space} {text}".encode())).normal(size=DIM).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def vectors_of(texts: list[str], space: int) -> np.ndarray:
    return np.array([vector_of(text, space) for text in texts], np.float32).reshape(-1, DIM)


FILTERS: Mapping[str, Callable[[Doc], bool]] = {
    "": lambda _doc: True,
    "year >= 2005": lambda doc: doc.year >= 2005,
    "year < 2003 or tag = 'new'": lambda doc: doc.year < 2003 or doc.tag == "new",
    "not tag = 'old'": lambda doc: doc.tag != "old",
    "tag in ('old', 'it''s')": lambda doc: doc.tag in ("old", "it's"),
}
