"""Gather pairs of several sources: what is unusable, excluded or there already is left out and counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from moe_retrieval.training.pairs.grouping import drawn_place, groups_of
from moe_retrieval.training.pairs.texts import folded, is_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from moe_retrieval.corpus.pairs import Pair
    from moe_retrieval.training.pairs.exclusion import Excluded

    Texts = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PairSource:
    """Pairs of one source. `groups`: for each pair what it is from, where the source knows; `dropped`: what
    the source itself left out; `together`: whether two documents belong together, beyond the pairs;
    `options`: how it was read, for the report.
    """

    name: str
    kind: str
    pairs: Sequence[Pair]
    groups: Sequence[str] | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    together: Callable[[str, str], bool] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        said = {"name": self.name, "kind": self.kind, "pairs": len(self.pairs)}
        return said | {"options": dict(self.options)} if self.options else said


@dataclass(frozen=True, slots=True)
class Gathered:
    """Pairs with their groups; what was left out, by reason; every domain that was met."""

    pairs: tuple[Pair, ...]
    groups: tuple[str, ...]
    dropped: Mapping[str, int]
    domains: frozenset[str]


def gathered(
    sources: Sequence[PairSource],
    *,
    excluded: Excluded,
    domains: Collection[str],
    min_chars: int,
    max_pairs: int,
    seed: int,
) -> Gathered:
    """The pairs of all sources that can be used, each once, in their order.

    Two pairs with the same two texts are one; if they are labelled 1 and 0, it is labelled 1.
    """
    dropped: Counter[str] = Counter()
    for source in sources:
        dropped.update(source.dropped)
    sieve = _Sieve(excluded, frozenset(domains), min_chars, positive=_positive(sources))
    pairs: list[Pair] = []
    groups: list[str] = []
    for number, source in enumerate(sources):
        kept = list(_usable(source, sieve, dropped))
        pairs += [pair for pair, _ in kept]
        groups += _groups(source, kept, number)
    chosen = _capped(pairs, max_pairs=max_pairs, seed=seed)
    dropped["over the cap of a domain"] += len(pairs) - len(chosen)
    return Gathered(
        tuple(pairs[place] for place in chosen),
        tuple(groups[place] for place in chosen),
        {reason: number for reason, number in dropped.items() if number},
        frozenset(pair.domain for source in sources for pair in source.pairs),
    )


def together_in(sources: Sequence[PairSource]) -> Callable[[str, str], bool]:
    """Whether any source says that two documents belong together; no order of the two matters."""
    asked = [source.together for source in sources if source.together]
    known = {frozenset(pair.documents) for source in sources for pair in source.pairs if pair.label}

    def together(one: str, other: str) -> bool:
        return frozenset((one, other)) in known or any(ask(one, other) for ask in asked)

    return together


@dataclass(slots=True)
class _Sieve:
    excluded: Excluded
    domains: frozenset[str]
    min_chars: int
    positive: frozenset[Texts]
    seen: set[Texts] = field(default_factory=set)

    def reason(self, pair: Pair) -> str:
        """Why a pair is left out; empty where it is not. One that stays is remembered."""
        if reason := self._unfit(pair) or self._unwanted(pair):
            return reason
        texts = _texts(pair)
        if not pair.label and texts in self.positive:
            return "labelled 0, and 1 elsewhere"
        if texts in self.seen:
            return "stands twice"
        self.seen.add(texts)
        return ""

    def _unfit(self, pair: Pair) -> str:
        a, b = folded(pair.a), folded(pair.b)
        if not a or not b:
            return "a text is empty"
        if a == b:
            return "both texts are the same"
        if min(len(a), len(b)) < self.min_chars:
            return f"a text is shorter than {self.min_chars} characters"
        whole = all(map(is_whole, (pair.a, pair.b, pair.a_id, pair.b_id, *pair.negatives)))
        return "" if whole else "half a character (a lone surrogate)"

    def _unwanted(self, pair: Pair) -> str:
        if self.domains and pair.domain not in self.domains:
            return "of another domain"
        return "of an excluded document" if self.excluded.touches(pair) else ""


def _usable(source: PairSource, sieve: _Sieve, dropped: Counter[str]) -> Iterator[tuple[Pair, str]]:
    groups = source.groups if source.groups is not None else [""] * len(source.pairs)
    for pair, group in zip(source.pairs, groups, strict=True):
        if reason := sieve.reason(pair):
            dropped[reason] += 1
            continue
        negatives = tuple(text for text in pair.negatives if folded(text) not in sieve.excluded.texts)
        dropped["excluded hard negatives"] += len(pair.negatives) - len(negatives)
        yield (pair if negatives == pair.negatives else replace(pair, negatives=negatives)), group


def _groups(source: PairSource, kept: Sequence[tuple[Pair, str]], number: int) -> list[str]:
    """Groups that a source knows are the same in every source; found ones are its own."""
    if source.groups is not None:
        return [group for _, group in kept]
    return [f"source {number}, {group}" for group in groups_of([pair for pair, _ in kept])]


def _capped(pairs: Sequence[Pair], *, max_pairs: int, seed: int) -> list[int]:
    """Places of at most so many pairs per domain, a sample drawn by seed; 0: all."""
    if not max_pairs:
        return list(range(len(pairs)))
    places: dict[str, list[int]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        places[pair.domain].append(place)
    drawn = [
        sorted(found, key=lambda place: drawn_place("\0".join(_texts(pairs[place])), seed=seed))[:max_pairs]
        for found in places.values()
    ]
    return sorted(place for found in drawn for place in found)


def _positive(sources: Sequence[PairSource]) -> frozenset[Texts]:
    if all(pair.label for source in sources for pair in source.pairs):
        return frozenset()
    return frozenset(_texts(pair) for source in sources for pair in source.pairs if pair.label)


def _texts(pair: Pair) -> Texts:
    one, other = folded(pair.a), folded(pair.b)
    return (one, other) if one < other else (other, one)
