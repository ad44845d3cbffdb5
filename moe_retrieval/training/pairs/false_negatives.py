"""Which near texts are no negatives: because they belong to the text after all, or may not be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.training.pairs.links import names_of

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    import numpy as np
    from numpy.typing import NDArray

    from moe_retrieval.corpus.pairs import Pair
    from moe_retrieval.training.pairs.links import Links
    from moe_retrieval.training.pairs.neighbours import Neighbour

OWN = "the pair's own document"
LINKED = "linked by a pair"
OTHER_SPLIT = "of another split"
EXCLUDED = "excluded"
DUPLICATE = "near-duplicate of the positive"
ABOVE = "too near to the text"
AGAIN = "of a document or text already taken"


@dataclass(frozen=True, slots=True)
class Judge:
    """What one pair must not get as a negative: names, and how near a text may be."""

    pair: Pair
    own: AbstractSet[str]
    linked: AbstractSet[str]
    excluded: AbstractSet[str]
    positive: NDArray[np.float32]
    limit: float
    duplicate: float

    def fault(self, hit: Neighbour, score: float, *, links: Links, taken: AbstractSet[str]) -> str:
        """Why a text is not taken; empty if it is."""
        faults = (
            (bool(hit.names & self.own), OWN),
            (bool(hit.names & self.linked), LINKED),
            (bool(hit.names & self.excluded), EXCLUDED),
            (links.elsewhere(hit.names, self.pair.split), OTHER_SPLIT),
            (float(hit.vector @ self.positive) > self.duplicate, DUPLICATE),
            (score > self.limit, ABOVE),
            (hit.document in taken or bool(names_of("", hit.text) & taken), AGAIN),
        )
        return next((name for wrong, name in faults if wrong), "")


def score_limit(positive: float, *, margin: float) -> float:
    """The score from which on a text is too near, for a pair that scores `positive`: never above that."""
    return positive - (1 - margin) * abs(
        positive
    )  # a part of a score below zero would be more than all of it
