"""Split pairs into train, validation and test, so that no document and no text is in two of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING

from moe_retrieval.corpus.pairs import Split
from moe_retrieval.errors import UsageError
from moe_retrieval.training.pairs.grouping import Key, drawn_place, groups_of, keys_of
from moe_retrieval.training.pairs.homes import homes_of, stays
from moe_retrieval.training.pairs.texts import folded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from moe_retrieval.corpus.pairs import Pair

_OVERFULL = 1.5
"""How far a group of pairs that stay together may overfill what a split should hold."""

_FEWEST_GROUPS = 3
"""A domain with fewer groups of like size is not split: all of it is for training."""


@dataclass(frozen=True, slots=True)
class SplitPairs:
    """Pairs by what they are for, each marked with its split; `dropped`: left out, by reason and number.

    `groups`: for each split the group of each of its pairs.
    """

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]
    dropped: Mapping[str, int]
    groups: Mapping[Split, tuple[str, ...]] = field(default_factory=dict)

    def of(self, split: Split) -> tuple[Pair, ...]:
        return {Split.TRAIN: self.train, Split.VALIDATION: self.validation, Split.TEST: self.test}[split]


def split_pairs(
    pairs: Sequence[Pair],
    *,
    seed: int,
    validation: float = 0.1,
    test: float = 0.1,
    by_time: bool | None = None,
    groups: Sequence[str] | None = None,
    keep: bool = False,
) -> SplitPairs:
    """Splits that share no document and no text, in the order of the pairs.

    A group (all pairs of one citing article, of one query) goes to one split as a whole, drawn by seed
    within its domain. By time, the newest groups of each domain are test, the next validation: so it is
    unless said otherwise where every pair has a date. A document of groups in several splits stays in the
    one that has most of its pairs, and its other pairs are dropped: a citation graph is one giant component,
    and can only be cut so (`homes_of` has the details). Without `groups`, pairs that are connected are one,
    as long as that stays small. With `keep`, pairs go where they say they belong, and only what two splits
    share is dropped.

    Raises:
        UsageError: shares that leave nothing to train on; `by_time` where a pair has no date, `keep` where
            one has no split.
    """
    _check_shares(validation, test)
    names = list(groups) if groups is not None else groups_of(pairs)
    if keep:
        wanted = _given(pairs)
    else:
        timed = _timed(pairs, by_time=by_time)
        plan = _Plan(validation=validation, test=test, seed=seed, timed=timed).assign(pairs, names)
        wanted = [plan[name] for name in names]
    return _settled(pairs, names, wanted, homes_of(pairs, wanted, seed=seed))


def check_disjoint(*splits: Iterable[Pair]) -> None:
    """Nothing, where no document and no text is in two of these sets of pairs.

    Raises:
        UsageError: one is; the message names it, and how many there are.
    """
    seen = [_seen(split) for split in splits]
    for one, other in combinations(range(len(seen)), 2):
        if shared := seen[one].keys() & seen[other].keys():
            first = min(shared)
            raise UsageError(
                f"{_said(seen[other], other)} shares {len(shared):,} documents or texts with "
                f"{_said(seen[one], one)}, such as {first[1][:80]!r}",
                hint="moeret pairs build splits pairs by document; give it the files",
            )


def _seen(split: Iterable[Pair]) -> dict[Key, str]:
    return {key: str(pair.split or "") for pair in split for key in keys_of(pair)}


def _said(seen: Mapping[Key, str], place: int) -> str:
    """What a set of pairs is called: by its mark, else by its place among the arguments."""
    marks = sorted(set(seen.values()) - {""})
    return marks[0] if len(marks) == 1 else f"set {place + 1}"


def _check_shares(validation: float, test: float) -> None:
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise UsageError(
            f"validation {validation:g} and test {test:g} leave nothing to train on",
            hint="give shares from 0 that add up to less than 1, as in 0.1 and 0.1",
        )


def _given(pairs: Sequence[Pair]) -> list[Split]:
    found = [pair.split for pair in pairs if pair.split is not None]
    if missing := len(pairs) - len(found):
        raise UsageError(
            f"{missing:,} of {len(pairs):,} pairs do not say which split they belong to",
            hint="let them be split by seed",
        )
    return found


def _timed(pairs: Sequence[Pair], *, by_time: bool | None) -> bool:
    undated = sum(not pair.date for pair in pairs)
    if by_time and undated:
        raise UsageError(
            f"{undated:,} of {len(pairs):,} pairs have no date, so that they cannot be split by time",
            hint="leave by_time out to split by document alone",
        )
    return undated == 0 and bool(pairs) if by_time is None else by_time


@dataclass(frozen=True, slots=True)
class _Plan:
    validation: float
    test: float
    seed: int
    timed: bool

    def assign(self, pairs: Sequence[Pair], names: Sequence[str]) -> dict[str, Split]:
        """The split of each group; domains are shared out one by one, so that each has its part."""
        sizes = Counter(names)
        domains: dict[str, str] = {}
        dates: dict[str, str] = defaultdict(str)
        for pair, name in zip(pairs, names, strict=True):
            domains.setdefault(name, pair.domain)
            dates[name] = max(dates[name], pair.date)
        by_domain: dict[str, list[str]] = defaultdict(list)
        for name in sorted(sizes, key=lambda name: drawn_place(name, seed=self.seed)):
            by_domain[domains[name]].append(name)
        wanted: dict[str, Split] = {}
        for members in by_domain.values():
            if self.timed:
                members.sort(key=lambda name: dates[name], reverse=True)
            wanted |= self._share_out(members, sizes)
        return wanted

    def _share_out(self, members: Sequence[str], sizes: Mapping[str, int]) -> dict[str, Split]:
        total = sum(sizes[name] for name in members)
        left = list(members)
        wanted: dict[str, Split] = {}
        shares = [(Split.VALIDATION, self.validation), (Split.TEST, self.test)]
        for split, share in reversed(shares) if self.timed else shares:  # by time, the newest are test
            taken = self._fill([(name, sizes[name]) for name in left], quota=total * share)
            wanted |= dict.fromkeys(taken, split)
            left = [name for name in left if name not in wanted]
        return wanted | dict.fromkeys(left, Split.TRAIN)

    def _fill(self, members: Sequence[tuple[str, int]], *, quota: float) -> set[str]:
        """Groups for a split of about `quota` pairs; by time they are the first ones, without a gap."""
        if quota < 1:
            return set()
        filled, taken = 0, set[str]()
        for name, size in members:
            if filled >= quota:
                break
            if filled + size <= _OVERFULL * quota:
                filled += size
                taken.add(name)
            elif self.timed:
                break
        return taken or _spared(members)


def _spared(members: Sequence[tuple[str, int]]) -> set[str]:
    """The first group, where all are too large for a small share and this one leaves enough to the others."""
    total = sum(size for _, size in members)
    return {name for name, size in members[:1] if size * _FEWEST_GROUPS <= total}


def _settled(
    pairs: Sequence[Pair], names: Sequence[str], wanted: Sequence[Split], homes: Mapping[Key, Split]
) -> SplitPairs:
    kept: dict[Split, list[Pair]] = {split: [] for split in Split}
    groups: dict[Split, list[str]] = {split: [] for split in Split}
    dropped: Counter[str] = Counter()
    for pair, name, split in zip(pairs, names, wanted, strict=True):
        if not stays(pair, split, homes):
            dropped[f"{split}: a document is in another split"] += 1
            continue
        negatives = tuple(text for text in pair.negatives if homes["text", folded(text)] is split)
        if lost := len(pair.negatives) - len(negatives):
            dropped["hard negatives of another split"] += lost
        kept[split].append(replace(pair, split=split, negatives=negatives))
        groups[split].append(name)
    return SplitPairs(
        tuple(kept[Split.TRAIN]),
        tuple(kept[Split.VALIDATION]),
        tuple(kept[Split.TEST]),
        dict(dropped),
        {split: tuple(found) for split, found in groups.items()},
    )
