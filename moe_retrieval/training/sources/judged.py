"""Pairs from a judged collection in BEIR layout: a query and a document, relevant or judged not relevant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.corpus.collection import read_collection
from moe_retrieval.corpus.pairs import Pair

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moe_retrieval.corpus.collection import Collection

KIND = "judged"


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """Pairs of a collection, for each the query that it is from, and what was left out, by reason."""

    pairs: tuple[Pair, ...]
    groups: tuple[str, ...]
    dropped: Mapping[str, int]


def judged_pairs(folder: Path, *, split: str = "", domain: str = "") -> JudgedPairs:
    """A pair for each judgement: label 1 where the grade is above 0, else 0.

    The domain is `domain`, or the query's, or the document's, or none. Ids are `document_id`s, so that two
    collections that count from 1 have no document in common.

    Raises:
        UsageError: a file of the collection is missing or damaged; the message names file and line.
    """
    found = read_collection(folder, split=split)
    pairs: list[Pair] = []
    dangling = 0
    for query, judged in found.qrels.items():
        for document, grade in judged.items():
            if document in found.documents:
                pairs.append(_pair(found, query, document, grade=grade, domain=domain))
            else:
                dangling += 1
    dropped = {"dangling qrels ids": dangling} if dangling else {}
    return JudgedPairs(tuple(pairs), tuple(pair.a_id for pair in pairs), dropped)


def document_id(name: str, *, collection: str, query: bool = False) -> str:
    """What a document or query is known by outside its collection: `pmid:1` says itself, `1` does not."""
    if ":" in name:
        return name
    return f"{collection}:query:{name}" if query else f"{collection}:{name}"


def _pair(found: Collection, query: str, document: str, *, grade: int, domain: str) -> Pair:
    return Pair(
        a=found.queries[query],
        b=found.documents[document],
        domain=domain or found.query_domains.get(query) or found.document_domains.get(document, ""),
        label=int(grade > 0),
        kind=KIND,
        a_id=document_id(query, collection=found.name, query=True),
        b_id=document_id(document, collection=found.name),
    )
