"""Which pairs are learnt together: of one domain, no text twice, no known pair as a negative."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moe_retrieval.corpus.pairs import Pair

_POWER = 0.5
"""Domains are drawn by size to this power: by its square root, a large one does not drown the small ones."""

_TRIES = 8
"""How many batches' worth of pairs are looked at before a batch stays smaller than asked."""

_TOGETHER = 2
"""Pairs of one domain that stand together in a step of several."""


def plan_steps(
    pairs: Sequence[Pair], *, size: int, steps: int, seed: int, power: float = _POWER
) -> list[list[int]]:
    """For each step the positions of its pairs, all of one domain and of label 1.

    Every pair of a domain comes once before any comes twice, but for those that have to wait because they do
    not go together with the others of a batch. In a batch no text stands twice, and no a stands beside a b
    that another pair says it belongs to: each would be learnt as a negative of what it belongs to.

    Raises:
        ValueError: there are no pairs that belong together.
    """
    by_domain: dict[str, list[int]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        if pair.label == 1:
            by_domain[pair.domain].append(place)
    if not by_domain:
        raise ValueError("no pairs that belong together")
    draw = random.Random(seed)  # noqa: S311 - a draw, not a secret
    related = related_texts(pairs)
    streams = {domain: _Stream(places, draw) for domain, places in sorted(by_domain.items())}
    names = list(streams)
    weights = [len(by_domain[name]) ** power for name in names]
    chosen = draw.choices(names, weights, k=steps)
    return [streams[domain].batch(pairs, related, size=size) for domain in chosen]


def plan_mixed_steps(pairs: Sequence[Pair], *, size: int, steps: int, seed: int) -> list[list[int]]:
    """As `plan_steps`, but each step is of several domains: a gate learns what tells them apart.

    Raises:
        ValueError: there are no pairs that belong together.
    """
    count = max(1, size // _TOGETHER)
    parts = plan_steps(pairs, size=min(size, _TOGETHER), steps=steps * count, seed=seed)
    return [list(chain(*parts[start : start + count])) for start in range(0, len(parts), count)]


def related_texts(pairs: Sequence[Pair]) -> Mapping[str, frozenset[str]]:
    """Text -> texts that it belongs to, by any pair."""
    found: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        if pair.label == 1:
            found[pair.a].add(pair.b)
            found[pair.b].add(pair.a)
    return {text: frozenset(own) for text, own in found.items()}


class _Stream:
    """The pairs of one domain in random order, over and over; what does not fit waits for the next batch."""

    def __init__(self, places: list[int], draw: random.Random) -> None:
        self._places, self._draw = places, draw
        self._waiting: deque[int] = deque()

    def batch(self, pairs: Sequence[Pair], related: Mapping[str, frozenset[str]], *, size: int) -> list[int]:
        chosen: list[int] = []
        texts: set[str] = set()
        passed: list[int] = []
        for _ in range(_TRIES * size):
            place = self._next()
            own = {pairs[place].a, pairs[place].b}
            if place in chosen or own & texts or any(related[text] & texts for text in own):
                passed.append(place)
                continue
            chosen.append(place)
            texts |= own
            if len(chosen) == size:
                break
        self._waiting.extendleft(reversed(passed))
        return chosen

    def _next(self) -> int:
        if not self._waiting:
            fresh = list(self._places)
            self._draw.shuffle(fresh)
            self._waiting.extend(fresh)
        return self._waiting.popleft()
