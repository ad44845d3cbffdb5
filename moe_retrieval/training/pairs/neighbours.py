"""Texts that lie near a vector: chunks of one domain's table, or the `b` texts of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from moe_retrieval.errors import StaleDomainError
from moe_retrieval.storage.found import Found
from moe_retrieval.storage.index import open_index
from moe_retrieval.storage.indexes.shared import bring_indexes
from moe_retrieval.storage.tables.rows import CONTENT, VECTOR, to_numpy
from moe_retrieval.training.pairs.links import names_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from moe_retrieval.corpus.pairs import Pair
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.index import VectorIndex
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.view import TableView

_COLUMNS = ("key", "doc_key", "doc_id", "title", "lead", CONTENT, VECTOR)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A text. `document`: texts with the same are of one document; `names`: what that may be called in pairs,
    ids and texts; `vector`: float32 (dim,).
    """

    document: str
    text: str
    names: frozenset[str]
    vector: NDArray[np.float32]


class Neighbours(Protocol):
    """Texts of one domain, to be searched by cosine."""

    def search(self, queries: NDArray[np.float32], *, k: int) -> list[Found]:
        """The k nearest per query, float32 (n, dim)."""
        ...

    def fetch(self, keys: NDArray[np.int64]) -> list[Neighbour]:
        """The texts with these keys, in their order."""
        ...


class TableNeighbours:
    """The chunks of a domain as one generation has them, with its index."""

    def __init__(self, view: TableView, index: VectorIndex | None) -> None:
        self._view, self._index = view, index

    @classmethod
    def open(
        cls,
        store: Store,
        generation: Generation,
        domain: str,
        *,
        encoder: Encoder,
        notify: Callable[[str], None],
    ) -> TableNeighbours:
        """The table of a domain that the generation has.

        Raises:
            StaleDomainError: its vectors are not those of the encoder.
        """
        entry = generation.domains[domain]
        if (loaded := encoder.fingerprint(domain)) != entry.fingerprint:
            raise StaleDomainError(domain, stored=entry.fingerprint, loaded=loaded)
        view = store.view(entry)
        if not entry.rows:
            return cls(view, None)
        bring_indexes(store.place, entry)
        return cls(view, open_index(view, folder=store.indexes_dir, entry=entry, notify=notify))

    def search(self, queries: NDArray[np.float32], *, k: int) -> list[Found]:
        if self._index is None:
            return [Found.nothing() for _ in queries]
        return self._index.search(queries, k=k)

    def fetch(self, keys: NDArray[np.int64]) -> list[Neighbour]:
        if self._index is None or not len(keys):
            return []
        table = self._view.fetch(keys, offsets=self._index.offsets(keys), columns=_COLUMNS)
        vectors = to_numpy(table[VECTOR])
        rows = table.drop_columns([VECTOR]).to_pylist()
        return [
            Neighbour(
                str(row["doc_key"]),
                row[CONTENT],
                names_of(row["doc_id"], row["title"] or "", row[CONTENT], row[CONTENT][row["lead"] :]),
                vector,
            )
            for row, vector in zip(rows, vectors, strict=True)
        ]


class PoolNeighbours:
    """The different `b` texts of pairs, searched exactly."""

    def __init__(self, texts: Sequence[str], names: Sequence[frozenset[str]], vectors: NDArray[np.float32]):
        self._texts, self._names, self._vectors = texts, names, vectors

    @classmethod
    def of(cls, pairs: Iterable[Pair], domain: str, *, encoder: Encoder) -> PoolNeighbours:
        """Those of one domain, under its expert."""
        known: dict[frozenset[str], str] = {}
        names: dict[frozenset[str], set[str]] = {}
        for pair in pairs:
            if pair.domain == domain:
                text = names_of("", pair.b)
                known.setdefault(text, pair.b)
                names.setdefault(text, set()).update(names_of(pair.b_id, pair.b))
        texts = list(known.values())
        vectors = encoder.encode_document(texts, domain=domain)
        return cls(texts, [frozenset(found) for found in names.values()], vectors)

    def search(self, queries: NDArray[np.float32], *, k: int) -> list[Found]:
        return [_best(scores, k=k) for scores in queries @ self._vectors.T]

    def fetch(self, keys: NDArray[np.int64]) -> list[Neighbour]:
        return [
            Neighbour(str(key), self._texts[key], self._names[key], self._vectors[key])
            for key in keys.tolist()
        ]


def _best(scores: NDArray[np.float32], *, k: int) -> Found:
    """The k best places; equals at the cut are told apart by their place."""
    places = np.arange(len(scores))
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero(scores >= least)
    return Found.ranked(places, scores[places], k=k)
