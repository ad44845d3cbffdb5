"""Cut the documents of a table anew: read from their sources, and taken only where they are as they were."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from moe_retrieval.corpus.chunking import RULES, Chunker
from moe_retrieval.corpus.readers import read_corpus
from moe_retrieval.corpus.walking import is_file
from moe_retrieval.errors import UsageError
from moe_retrieval.hashing import content_hash, document_key, homes_in, shared_hash
from moe_retrieval.retrieval.rebuilding.embedded import entries_before
from moe_retrieval.storage.lookup import places
from moe_retrieval.types import GENERAL, Document, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.view import TableView

_IDENTITY = re.compile(r"semchunk/(\d+)/(\d+)/(\d+)")
_JOINT = " + "


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """What the caller asks of chunks; `tokens` 0 and `overlap` None: they stay as they are."""

    tokens: int = 0
    overlap: int | None = None

    @property
    def given(self) -> bool:
        return bool(self.tokens) or self.overlap is not None


@dataclass(frozen=True, slots=True)
class Cut:
    """What the name of a chunker says."""

    tokens: int
    overlap: int
    rules: int

    @classmethod
    def parse(cls, identity: str) -> Self | None:
        """None for a name that no chunker of ours has."""
        found = _IDENTITY.fullmatch(identity)
        return cls(*map(int, found.groups())) if found else None


def parts_of(chunking: str) -> tuple[str, ...]:
    """The chunkers that a catalog's entry names: one, or several where documents keep older chunks."""
    return tuple(part for part in chunking.split(_JOINT) if part)


def joined(*chunkings: str) -> str:
    """One entry for a table whose documents were cut by several chunkers, the newest last."""
    names = [part for chunking in chunkings for part in parts_of(chunking)]
    return _JOINT.join(reversed(dict.fromkeys(reversed(names))))


def new_chunker(recorded: str, sizes: ChunkSizes, *, encoder: Encoder) -> Chunker | None:
    """The chunker that a table's documents are to be cut with, or None where they keep their chunks.

    Nothing changes unless sizes are given, or the rules are others than when the table was written.

    Raises:
        UsageError: chunks of these sizes cannot be cut.
    """
    cuts = [cut for cut in map(Cut.parse, parts_of(recorded)) if cut]
    if not sizes.given and all(cut.rules == RULES for cut in cuts):
        return None
    tokens = sizes.tokens or (cuts[-1].tokens if cuts else encoder.token_limit)
    overlap = sizes.overlap if sizes.given else cuts[-1].overlap
    chunker = Chunker(encoder.count_tokens, max_tokens=tokens, overlap=overlap)
    return None if chunker.identity == recorded else chunker


def recorded_sizes(live: Generation | None) -> ChunkSizes:
    """The sizes that all domains were last cut with; none where they differ, or nothing is stored yet."""
    entries = live.domains.values() if live else ()
    cuts = {Cut.parse(parts_of(entry.chunking)[-1]) for entry in entries if entry.chunking}
    cut = cuts.pop() if len(cuts) == 1 else None
    return ChunkSizes(cut.tokens, cut.overlap) if cut else ChunkSizes()


def chunkings_of(store: Store, domain: str, entry: DomainEntry) -> tuple[str, ...]:
    """Every chunker that a document of the table may have been cut with: all that the catalog still names."""
    entries = (entry, *entries_before(store, domain))
    return tuple(dict.fromkeys(part for one in entries for part in parts_of(one.chunking)))


class _State(IntEnum):
    """What became of a stored document when its source was read again."""

    MISSING = 0
    CHANGED = 1
    SAME = 2  # it was cut so before
    TAKEN = 3


@dataclass(frozen=True, slots=True)
class Taken:
    """A document that is as it was indexed in `parts` chunks; `digest`: its hash under the new chunker."""

    document: Document
    key: int
    digest: int
    parts: int


class Rereading:
    """The stored documents of one table against what their sources hold now.

    A document is taken only if its content hash, under a chunker that the table was written with, is the
    stored one: a reindex changes how, never what. All others keep their chunks.
    """

    def __init__(self, view: TableView, *, chunker: Chunker, known: Sequence[str]) -> None:
        self.chunker = chunker
        self._known = [name for name in known if name != chunker.identity]
        columns = ("doc_key", "doc_hash", "source")
        batches = list(view.batches(columns))
        keys = np.concatenate([np.zeros(0, np.int64), *(batch["doc_key"].to_numpy() for batch in batches)])
        hashes = np.concatenate([np.zeros(0, np.int64), *(batch["doc_hash"].to_numpy() for batch in batches)])
        self.keys, first, self._parts = np.unique(keys, return_index=True, return_counts=True)
        self.hashes = hashes[first].copy()  # (n,) as expected in the new table: those taken change on the way
        self.sources, self._homes = _sources(batches, first)
        self._states = np.zeros(len(self.keys), np.int8)

    def documents(self) -> Iterator[Taken]:
        """Those to be cut anew, source by source."""
        for source in self.sources:
            if not Path(source).is_absolute() or not is_file(Path(source)):
                continue
            for document in _read(source):
                if (taken := self._judged(document)) is not None:
                    yield taken

    @property
    def taken(self) -> np.ndarray:
        """Keys (int64, ascending) of the documents that were cut anew."""
        return np.asarray(self.keys[self._states == _State.TAKEN])

    @property
    def kept(self) -> int:
        """How many documents keep the chunks of an older chunker."""
        return int((self._states < _State.SAME).sum())

    def rejections(self) -> tuple[Rejected, ...]:
        """The sources whose documents keep their old chunks, with how many and why."""
        gone = Counter(self._homes[self._states == _State.MISSING].tolist())
        changed = Counter(self._homes[self._states == _State.CHANGED].tolist())
        return tuple(
            Rejected(self.sources[home], _reason(self.sources[home], gone=gone[home], changed=changed[home]))
            for home in sorted({*gone, *changed})
        )

    def _judged(self, document: Document) -> Taken | None:
        key = document_key(document.source, document.id)
        place = int(places(np.array([key], np.int64), among=self.keys)[0])
        if place < 0 or self._states[place] != _State.MISSING:
            return None  # of another domain, or a twin of one that came before
        stored, digest = int(self.hashes[place]), content_hash(document, chunking=self.chunker.identity)
        if homes_in(stored, digest):
            self._states[place] = _State.SAME
            return None
        homes = max(
            (homes_in(stored, content_hash(document, chunking=name)) for name in self._known), default=0
        )
        if not homes:
            self._states[place] = _State.CHANGED
            return None
        digest = shared_hash(digest, homes)
        self._states[place], self.hashes[place] = _State.TAKEN, digest
        return Taken(document, key, digest, parts=int(self._parts[place]))


def _read(source: str) -> Iterator[Document]:
    try:
        for item in read_corpus([source], domain=GENERAL, missing_ok=True):
            if isinstance(item, Document):
                yield item
    except UsageError:  # it may not be looked at any more
        return


def _sources(batches: Sequence[object], first: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The different sources, and for each document (by the place of its first row) which is its own."""
    import pyarrow as pa

    column = pa.chunked_array([batch["source"] for batch in batches], pa.string())  # type: ignore[index]
    own = column.take(pa.array(first)).combine_chunks().dictionary_encode()
    return own.dictionary.to_pylist(), own.indices.to_numpy()


def _reason(source: str, *, gone: int, changed: int) -> str:
    number = gone + changed
    keep = f"{number:,} document{' keeps its' if number == 1 else 's keep their'} old chunks"
    if not Path(source).is_absolute():
        return f"{keep}: no file to read again"
    if not is_file(Path(source)):
        return f"{keep}: the file is gone"
    return f"{keep}: no longer what was indexed" if changed else f"{keep}: no longer in the file"
