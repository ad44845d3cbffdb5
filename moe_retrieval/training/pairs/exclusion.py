"""Documents that must not come into pairs, since something is judged by them later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.corpus.collection import read_collection
from moe_retrieval.corpus.pairs import read_pairs
from moe_retrieval.errors import UsageError
from moe_retrieval.training.pairs.texts import folded
from moe_retrieval.training.sources.judged import document_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from moe_retrieval.corpus.pairs import Pair

_PAIR_FILES = ("pairs.jsonl", "train.jsonl", "validation.jsonl", "test.jsonl")


@dataclass(frozen=True, slots=True)
class Excluded:
    """Ids of documents, and folded texts: a document has no other id to hide behind."""

    ids: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()

    def touches(self, pair: Pair) -> bool:
        """Whether a side of the pair is excluded."""
        return (
            pair.a_id in self.ids
            or pair.b_id in self.ids
            or folded(pair.a) in self.texts
            or folded(pair.b) in self.texts
        )


def read_excluded(paths: Iterable[Path]) -> Excluded:
    """The documents and queries of collections in BEIR layout, and both sides of files of pairs.

    Raises:
        UsageError: a path is neither; the message names it.
    """
    found = [known for path in paths for known in _known(path)]
    return Excluded(
        frozenset(name for name, _ in found if name), frozenset(folded(text) for _, text in found)
    )


def _known(path: Path) -> Iterator[tuple[str, str]]:
    """Id (empty: none) and text of what a path holds; a folder with pairs beside qrels gives both."""
    if not path.exists():
        raise UsageError(f"there is no {path} to exclude", hint="give BEIR folders or files of pairs")
    if path.is_file():
        yield from _sides(path)
        return
    pairs = [file for file in sorted(path.glob("*.jsonl")) if file.name in _PAIR_FILES]
    for file in pairs:
        yield from _sides(file) if file.stat().st_size else ()
    if (path / "corpus.jsonl").is_file():
        yield from _members(path)
    elif not pairs:
        raise UsageError(f"{path} holds nothing to exclude", hint="give BEIR folders or files of pairs")


def _sides(file: Path) -> Iterator[tuple[str, str]]:
    for pair in read_pairs(file):
        yield pair.a_id, pair.a
        yield pair.b_id, pair.b


def _members(folder: Path) -> Iterator[tuple[str, str]]:
    found = read_collection(folder)
    for name, text in found.documents.items():
        yield document_id(name, collection=found.name), text
    for name, text in found.queries.items():
        yield document_id(name, collection=found.name, query=True), text
