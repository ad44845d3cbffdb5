"""Which hits may go into a context: none that a better one already holds, no more than the quotas allow."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from moe_retrieval.retrieval.citations.fencing import visible
from moe_retrieval.retrieval.citations.spans import touch

if TYPE_CHECKING:
    from moe_retrieval.types import Hit

    Shingle = tuple[str, ...]

NEAR_DUPLICATE = 0.8
"""Share of a text's five-word shingles that a better text must hold to make it a duplicate."""


class Shown:
    """Texts that are shown already; tells whether one of them holds another text.

    Containment, not resemblance (Broder, 1997): a long text is no duplicate of its part. Costs one look-up
    per shingle, however many texts there are.
    """

    def __init__(self) -> None:
        self._hits: list[Hit] = []
        self._where: defaultdict[Shingle, list[int]] = defaultdict(list)  # places of the hits that have it

    def holds(self, hit: Hit) -> bool:
        """Whether the text of a hit stands in a shown one, of whatever document; one that touches it does
        not count: the two will be joined.
        """
        shingles = _shingles(hit.text)
        shared = Counter(place for one in shingles for place in self._where.get(one, ()))
        least = NEAR_DUPLICATE * len(shingles)
        return any(
            count >= least and not touch(self._hits[place], hit) for place, count in shared.most_common()
        )

    def add(self, hit: Hit) -> None:
        for one in _shingles(hit.text):
            self._where[one].append(len(self._hits))
        self._hits.append(hit)


class Quotas:
    """How many chunks of one document and of one domain may still be shown; None: any number."""

    def __init__(self, *, per_document: int | None, per_domain: int | None) -> None:
        self._per_document, self._per_domain = per_document, per_domain
        self._documents: Counter[tuple[str, str]] = Counter()
        self._domains: Counter[str] = Counter()

    def allow(self, hit: Hit) -> bool:
        return _below(self._documents[hit.source, hit.doc_id], self._per_document) and _below(
            self._domains[hit.domain], self._per_domain
        )

    def add(self, hit: Hit) -> None:
        self._documents[hit.source, hit.doc_id] += 1
        self._domains[hit.domain] += 1


def _below(count: int, most: int | None) -> bool:
    return most is None or count < most


def _shingles(text: str, *, size: int = 5) -> frozenset[Shingle]:
    words = re.findall(r"\w+", visible(text).lower()) or [text]
    return frozenset(tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1)))
