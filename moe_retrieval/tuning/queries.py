"""Judged queries in two halves: one to choose by, one to say what the choice is worth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.corpus.collection import read_asked

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from moe_retrieval.corpus.collection import Asked

VALIDATION_FILES = ("dev", "validation", "val")
"""Names under which collections in BEIR layout publish the judgements to choose by."""


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query and the grades of documents; `domain`: the one it names, where the store has it, else empty.

    `held`: it is of the half that nothing is chosen by.
    """

    id: str
    text: str
    grades: Mapping[str, int]
    domain: str = ""
    held: bool = False


def read_queries(folder: Path, *, known: Collection[str]) -> tuple[JudgedQuery, ...]:
    """The judged queries of a folder in BEIR layout, whose documents lie in a store with domains `known`.

    Where the folder has judgements for validation and for test (`qrels/dev.tsv` and `qrels/test.tsv`), these
    are the halves. Else the first bit of the sha256 of a query's id says which half it is of (0: to choose
    by), so that a query stays where it is when others are added.

    Raises:
        UsageError: a file is missing or damaged, or no query is judged.
    """
    published = [name for name in VALIDATION_FILES if (folder / "qrels" / f"{name}.tsv").is_file()]
    if published and (folder / "qrels" / "test.tsv").is_file():
        chosen_by = _queries(read_asked(folder, split=published[0]), known, held=False)
        judged_by = _queries(read_asked(folder, split="test"), known, held=True)
        taken = {one.id for one in judged_by}
        return (*(one for one in chosen_by if one.id not in taken), *judged_by)
    return _queries(read_asked(folder), known, held=None)


def is_held(name: str) -> bool:
    """Whether a query of this id is of the half that nothing is chosen by."""
    return hashlib.sha256(name.encode()).digest()[0] >= 128


def _queries(asked: Asked, known: Collection[str], *, held: bool | None) -> tuple[JudgedQuery, ...]:
    return tuple(
        JudgedQuery(
            id=name,
            text=text,
            grades=asked.qrels[name],
            domain=domain if (domain := asked.domains.get(name, "")) in known else "",
            held=is_held(name) if held is None else held,
        )
        for name, text in asked.queries.items()
    )
