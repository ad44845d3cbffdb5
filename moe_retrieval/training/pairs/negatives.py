"""Hard negatives: texts of the same domain that lie near a text and do not belong to it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import UnknownDomainError, UsageError
from moe_retrieval.storage.lookup import distinct
from moe_retrieval.training.pairs.false_negatives import Judge, score_limit
from moe_retrieval.training.pairs.links import Links, names_of
from moe_retrieval.training.pairs.neighbours import PoolNeighbours, TableNeighbours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from moe_retrieval.corpus.pairs import Pair
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.found import Found
    from moe_retrieval.storage.store import Store
    from moe_retrieval.training.pairs.neighbours import Neighbour, Neighbours

_WINDOW = 256
"""Pairs whose texts are encoded and searched together."""


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """What counts as a false negative.

    `margin`: part of the positive's score that a negative may reach; .95 was the best of the filters compared
    by Moreira et al. (NV-Retriever, arXiv 2407.15831, TopK-PercPos). `duplicate`: cosine to the positive from
    which on a text says the same. `steps`: over how many positive pairs a document still belongs to one; with
    two, so do references that one article cites in different places. `excluded`: ids or texts of documents
    that must not be taken at all.
    """

    margin: float = 0.95
    duplicate: float = 0.95
    steps: int = 2
    excluded: AbstractSet[str] = frozenset()


@dataclass(frozen=True, slots=True)
class MinedPairs:
    """All pairs in their order, the positive ones with negatives.

    `mined`: negatives that were added; `short`: positive pairs that have fewer than was asked; `dropped`: how
    many near texts were passed over, by reason.
    """

    pairs: tuple[Pair, ...]
    mined: int
    short: int
    dropped: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The counts; of the pairs, how many."""
        counts = {"pairs": len(self.pairs), "mined": self.mined, "short": self.short}
        return counts | {"dropped": dict(self.dropped)}


def mine_negatives(
    pairs: Sequence[Pair],
    *,
    store: Store,
    generation: Generation,
    encoder: Encoder,
    per_pair: int = 4,
    depth: int = 50,
    skip: int = 0,
    options: MiningOptions | None = None,
    notify: Callable[[str], None] = lambda _message: None,
    progress: Callable[[int], None] | None = None,
) -> MinedPairs:
    """Give every positive pair negatives from the table of its domain, the nearest first.

    The domain's expert encodes `a` as a query. Of the `depth` nearest chunks never taken are those of the
    pair's own documents, of documents that `pairs` bring together with one of the two, of documents that
    a pair of another split touches, near-duplicates of `b`, and what scores too close to `b`; of one
    document, one chunk is. Negatives that a pair has already count, and stay.

    Args:
        pairs: those to mine for, and all others that say what belongs together.
        store: where the tables are.
        generation: which state of them is searched.
        encoder: the one the generation was written with.
        per_pair: negatives each positive pair should have.
        depth: how many chunks are looked at per pair.
        skip: how many of the nearest are not.
        options: what counts as a false negative.
        notify: hears, in a sentence, of an index that is not as it should be.
        progress: called with the number of pairs just done.

    Raises:
        UsageError: a number is impossible, no pair is positive, or one names no domain.
        UnknownDomainError: a domain of the pairs is not in the generation.
        StaleDomainError: a table was written with another encoder.
    """
    miner = _Miner(pairs, encoder, per_pair=per_pair, depth=depth, skip=skip, options=options)
    _check_domains(miner.domains, generation)

    def opened(domain: str) -> TableNeighbours:
        return TableNeighbours.open(store, generation, domain, encoder=encoder, notify=notify)

    return miner.run(opened, progress=progress)


def mine_from_pool(
    pairs: Sequence[Pair],
    *,
    encoder: Encoder,
    per_pair: int = 4,
    depth: int = 50,
    skip: int = 0,
    options: MiningOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> MinedPairs:
    """As `mine_negatives`, from the `b` texts of the pairs of the same domain, searched exactly.

    Raises:
        UsageError: a number is impossible, or no pair is positive.
    """
    miner = _Miner(pairs, encoder, per_pair=per_pair, depth=depth, skip=skip, options=options)
    return miner.run(lambda domain: PoolNeighbours.of(pairs, domain, encoder=encoder), progress=progress)


class _Miner:
    """One run over pairs."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        encoder: Encoder,
        *,
        per_pair: int,
        depth: int,
        skip: int,
        options: MiningOptions | None,
    ) -> None:
        self.pairs, self.encoder, self.options = pairs, encoder, options or MiningOptions()
        self.per_pair, self.depth, self.skip = per_pair, depth, skip
        _check(self.options, per_pair=per_pair, depth=depth, skip=skip)
        self.domains = _positives(pairs)
        self.excluded = frozenset().union(*(names_of(name, name) for name in self.options.excluded))
        self.links = Links.of(pairs)
        self.dropped: Counter[str] = Counter()

    def run(
        self, opened: Callable[[str], Neighbours], *, progress: Callable[[int], None] | None
    ) -> MinedPairs:
        """Mine domain by domain; the pairs keep their order."""
        found: dict[int, list[str]] = {}
        for domain, places in self.domains.items():
            near = opened(domain)
            for at in range(0, len(places), _WINDOW):
                window = places[at : at + _WINDOW]
                mined = self._window([self.pairs[place] for place in window], domain, near)
                found |= zip(window, mined, strict=True)
                if progress:
                    progress(len(window))
        return self._report(found)

    def _report(self, found: Mapping[int, Sequence[str]]) -> MinedPairs:
        full = [
            replace(pair, negatives=(*pair.negatives, *found.get(place, ())))
            for place, pair in enumerate(self.pairs)
        ]
        return MinedPairs(
            tuple(full),
            mined=sum(len(texts) for texts in found.values()),
            short=sum(len(full[place].negatives) < self.per_pair for place in found),
            dropped=dict(sorted(self.dropped.items())),
        )

    def _window(self, pairs: Sequence[Pair], domain: str, near: Neighbours) -> list[list[str]]:
        """The negatives of some pairs of one domain."""
        asked = list(dict.fromkeys(pair.a for pair in pairs))
        told = list(dict.fromkeys(pair.b for pair in pairs))
        queries = self.encoder.encode_query(asked, domain=domain)  # (texts, dim)
        vectors = dict(zip(asked, queries, strict=True))
        positives = dict(zip(told, self.encoder.encode_document(told, domain=domain), strict=True))
        founds = dict(zip(asked, near.search(queries, k=self.depth), strict=True))
        keys = distinct(np.concatenate([found.keys[self.skip :] for found in founds.values()]))
        hits = dict(zip(keys.tolist(), near.fetch(keys), strict=True))
        return [
            self._choose(self._judge(pair, vectors[pair.a], positives[pair.b]), founds[pair.a], hits)
            for pair in pairs
        ]

    def _judge(self, pair: Pair, query: NDArray[np.float32], positive: NDArray[np.float32]) -> Judge:
        own = self.links.own(pair)
        return Judge(
            pair,
            own=own,
            linked=self.links.linked(own, steps=self.options.steps),
            excluded=self.excluded,
            positive=positive,
            limit=score_limit(float(query @ positive), margin=self.options.margin),
            duplicate=self.options.duplicate,
        )

    def _choose(self, judge: Judge, found: Found, hits: Mapping[int, Neighbour]) -> list[str]:
        """The negatives of one pair, the nearest first."""
        had = judge.pair.negatives
        taken = set().union(*(names_of("", text) for text in had))
        chosen: list[str] = []
        for key, score in zip(found.keys[self.skip :], found.scores[self.skip :], strict=True):
            if len(had) + len(chosen) >= self.per_pair:
                break
            hit = hits[int(key)]
            if fault := judge.fault(hit, float(score), links=self.links, taken=taken):
                self.dropped[fault] += 1
            else:
                taken |= {hit.document, *names_of("", hit.text)}
                chosen.append(hit.text)
        return chosen


def _positives(pairs: Sequence[Pair]) -> dict[str, list[int]]:
    """Places of the positive pairs of each domain.

    Raises:
        UsageError: there are none.
    """
    domains: dict[str, list[int]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        if pair.label:
            domains[pair.domain].append(place)
    if not domains:
        raise UsageError("no pair is labelled 1, so there is nothing to mine for", hint="give positive pairs")
    return dict(sorted(domains.items()))


def _check_domains(domains: Iterable[str], generation: Generation) -> None:
    """Whether there is a table for each.

    Raises:
        UsageError: a pair names no domain.
        UnknownDomainError: one names a domain that is not in the generation.
    """
    for domain in domains:
        if not domain:
            raise UsageError("a pair names no domain, so there is no table to search", hint="give it one")
        if domain not in generation.domains:
            raise UnknownDomainError(domain, generation.domains)


def _check(options: MiningOptions, *, per_pair: int, depth: int, skip: int) -> None:
    """Whether the numbers mean something.

    Raises:
        UsageError: one does not.
    """
    if per_pair < 1 or not 0 <= skip < depth:
        raise UsageError(
            f"cannot mine {per_pair} negatives from the nearest {depth} texts without the first {skip}",
            hint="ask for at least one, and skip fewer than the depth",
        )
    if not (0 < options.margin <= 1 and 0 < options.duplicate <= 1 and options.steps >= 1):
        raise UsageError(
            f"cannot mine with margin {options.margin}, duplicate {options.duplicate}, steps {options.steps}",
            hint="the first two are above 0, up to 1; there is at least one step",
        )
