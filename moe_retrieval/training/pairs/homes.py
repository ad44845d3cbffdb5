"""The one split that a document or a text lives in, where pairs of several splits want it."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import chain
from typing import TYPE_CHECKING

from moe_retrieval.corpus.pairs import Split
from moe_retrieval.training.pairs.grouping import Key, drawn_place, keys_of
from moe_retrieval.training.pairs.texts import folded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from moe_retrieval.corpus.pairs import Pair

    Votes = Mapping[Key, Counter[Split]]

_WEIGHTS = {Split.TEST: 2, Split.VALIDATION: 2, Split.TRAIN: 1}
"""A pair counts double in the small splits, which can spare it less; a tie goes to them, too."""

_SPARED = {Split.TEST: 3, Split.VALIDATION: 3, Split.TRAIN: 1}
"""As above where homes are drawn: of pairs of two shared documents, few stay in a small split."""


def homes_of(pairs: Sequence[Pair], wanted: Sequence[Split], *, seed: int) -> dict[Key, Split]:
    """A split for each document and each text of pairs that want to be in these splits.

    It is the one with most of its pairs. In domains where that leaves validation or test less than half of
    what they want, a home is drawn instead, each split as likely as it has pairs. Texts that are only hard
    negatives follow the pairs, and not the other way round.
    """
    votes, aside = _votes(pairs, wanted)
    homes = {key: _most(found) for key, found in chain(aside.items(), votes.items())}
    for domain in sorted(_starved(pairs, wanted, homes)):
        homes |= _drawn([pair for pair in pairs if pair.domain == domain], votes, seed=seed)
    return homes


def stays(pair: Pair, split: Split, homes: Mapping[Key, Split]) -> bool:
    """Whether all that a pair is known by lives in this split."""
    return all(homes[key] is split for key in keys_of(pair))


def _votes(pairs: Iterable[Pair], wanted: Iterable[Split]) -> tuple[Votes, Votes]:
    """How many pairs of each split want a document or text; the same for texts of hard negatives."""
    votes: dict[Key, Counter[Split]] = defaultdict(Counter)
    aside: dict[Key, Counter[Split]] = defaultdict(Counter)
    for pair, split in zip(pairs, wanted, strict=True):
        for key in keys_of(pair):
            votes[key][split] += 1
        for text in pair.negatives:
            aside["text", folded(text)][split] += 1
    return votes, aside


def _starved(pairs: Sequence[Pair], wanted: Sequence[Split], homes: Mapping[Key, Split]) -> set[str]:
    """Domains of which validation or test would keep less than half."""
    before, after = Counter[tuple[str, Split]](), Counter[tuple[str, Split]]()
    for pair, split in zip(pairs, wanted, strict=True):
        before[pair.domain, split] += 1
        after[pair.domain, split] += stays(pair, split, homes)
    return {
        domain
        for (domain, split), number in before.items()
        if split is not Split.TRAIN and after[domain, split] < number / 2
    }


def _most(votes: Counter[Split]) -> Split:
    return max(_WEIGHTS, key=lambda split: votes[split] * _WEIGHTS[split])


def _drawn(pairs: Sequence[Pair], votes: Votes, *, seed: int) -> dict[Key, Split]:
    """A split for each document that pairs of several splits want; its texts go with it.

    Documents are put in an order that the seed draws and shared out along it, so that each split gets its
    part even of a few.
    """
    shown: dict[Key, Key] = {}
    for pair in pairs:
        *ids, a, b = keys_of(pair)
        texts = ([a] if pair.a_id else []) + ([b] if pair.b_id else [])
        shown |= {text: shown.get(text, text) for text in (a, b)}
        shown |= {name: shown.get(name, text) for name, text in zip(ids, texts, strict=True)}
    shared = {text for key, text in shown.items() if len(votes[key]) > 1}
    order = sorted(shared, key=lambda text: drawn_place(text[1], seed=seed))
    share = {text: (place + 0.5) / len(order) for place, text in enumerate(order)}
    return {key: _at(votes[text], share[text]) for key, text in shown.items() if text in shared}


def _at(votes: Counter[Split], share: float) -> Split:
    """The split at this place of all that want it, laid end to end."""
    chances = [(split, votes[split] * _SPARED[split]) for split in _SPARED]
    place = share * sum(chance for _, chance in chances)
    for split, chance in chances:
        if place < chance:
            return split
        place -= chance
    return chances[-1][0]
