"""Which pairs should stay together when pairs are split: those that share documents or texts."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from moe_retrieval.training.pairs.texts import folded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_retrieval.corpus.pairs import Pair

Key = tuple[str, str]
"""What a pair is known by: a document's id, or a folded text."""

_GIANT = 0.05
"""Share of all pairs from which on a connected set of them is cut rather than kept together."""


def keys_of(pair: Pair) -> tuple[Key, ...]:
    """The documents of a pair, as far as they have ids, and its texts."""
    ids = tuple(("id", name) for name in (pair.a_id, pair.b_id) if name)
    return (*ids, ("text", folded(pair.a)), ("text", folded(pair.b)))


def groups_of(pairs: Sequence[Pair]) -> list[str]:
    """A group for each pair: the pairs that are connected by documents or texts.

    A connected set that holds more than a twentieth of its domain falls apart: first into what positive
    pairs connect (random negatives weld everything to everything), then into the pairs of one `a`.
    """
    names = [f"of {pair.documents[0]}" for pair in pairs]
    for positive_only in (True, False):
        roots = _roots(pairs, positive_only=positive_only)
        small = _small(pairs, roots)
        for number, root in enumerate(roots):
            if root in small:
                names[number] = f"set {root}"
    return names


def _small(pairs: Sequence[Pair], roots: Sequence[int]) -> set[int]:
    """The connected sets that may stay whole."""
    domains = Counter(pair.domain for pair in pairs)
    sizes = Counter(roots)
    return {root for root, size in sizes.items() if size <= max(2, _GIANT * domains[pairs[root].domain])}


def drawn_place(name: str, *, seed: int) -> bytes:
    """By what names are put in an order that the seed draws, whatever order they come in."""
    return hashlib.sha256(f"{seed} {name}".encode(errors="surrogatepass")).digest()


def _roots(pairs: Sequence[Pair], *, positive_only: bool) -> list[int]:
    """For each pair the number of the first one that it is connected with (disjoint sets, paths halved).

    A pair that does not connect is in the set of its `a`.
    """
    parent = list(range(len(pairs)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    first: dict[Key, int] = {}
    for number, pair in enumerate(pairs):
        connects = bool(pair.label) or not positive_only
        for key in keys_of(pair) if connects else keys_of(replace(pair, b=pair.a, b_id="")):
            one, other = root(first.setdefault(key, number)), root(number)
            parent[max(one, other)] = min(one, other)
    return [root(number) for number in range(len(pairs))]
