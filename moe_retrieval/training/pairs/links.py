"""What pairs say of documents, by every name they use for one: which are the same, which belong together."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moe_retrieval.training.pairs.texts import folded

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from moe_retrieval.corpus.pairs import Pair, Split


def names_of(identity: str, *texts: str) -> frozenset[str]:
    """What a document may be called: its id, and its texts without case, white space and punctuation."""
    said = (" ".join(re.findall(r"\w+", text.casefold())) or folded(text) for text in texts)
    return frozenset(name for name in (identity, *said) if name)


@dataclass(slots=True)
class Links:
    """Names of one document, names of those it belongs together with, and the splits that touch it."""

    same: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    partners: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    splits: dict[str, set[Split | None]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> Links:
        links = cls()
        for pair in pairs:
            links._add(pair)
        return links

    def own(self, pair: Pair) -> set[str]:
        """All names of the pair's two documents."""
        return self._all(names_of(pair.a_id, pair.a) | names_of(pair.b_id, pair.b))

    def linked(self, own: AbstractSet[str], *, steps: int) -> set[str]:
        """All names of the documents that positive pairs bring together with one of these, over so many."""
        reached, edge = set(own), set(own)
        for _ in range(steps):
            edge = self._all({name for one in edge for name in self.partners.get(one, ())}) - reached
            reached |= edge
        return reached - own

    def elsewhere(self, names: AbstractSet[str], split: Split | None) -> bool:
        """Whether a pair of another split touches a document of these names."""
        return any(self.splits[name] - {split} for name in names if name in self.splits)

    def _add(self, pair: Pair) -> None:
        sides = (names_of(pair.a_id, pair.a), names_of(pair.b_id, pair.b))
        for side, other in (sides, sides[::-1]):
            for name in side:
                self.same[name] |= side
                self.splits[name].add(pair.split)
                if pair.label:
                    self.partners[name] |= other

    def _all(self, names: AbstractSet[str]) -> set[str]:
        return {name for one in names for name in self.same.get(one, ())}
