"""From probabilities to domains: which to take, and when to say that none is known."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import UsageError
from moe_retrieval.types import Route

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENOUGH = 50
"""Held-out texts below which a threshold is not trusted, and domains are taken by their sum."""
NOVEL = 0.01
"""Share of held-out texts that may be called unknown though they are not."""
MASS = 0.98
"""Probability wanted of the right domain being among those taken, where nobody says another."""
SUM = 0.9
"""The same, where there is no threshold, and the probabilities of the taken domains are summed: a router
that knows no questions is less sure of them than it is right, so this sum finds as much (docs/routing.md).
"""
_CLOSE = 1e-9


class Kind(StrEnum):
    """What a text is: documents and questions lie differently, and each has its own measure."""

    DOCUMENT = "document"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Held:
    """What a router said of texts that it was not fitted on, each ascending.

    `chances` (n,) are the probabilities of the right domains; `energies` (n,) the logarithms of the summed
    exponentials of all domains' scores: low where a text is like nothing known (Liu et al., NeurIPS 2020).
    """

    chances: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    energies: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, scores: NDArray[np.float64], targets: NDArray[np.int64]) -> Held:
        """From scores (n, domains) and the places of the right domains."""
        right = np.exp(log_softmax(scores))[np.arange(len(targets)), targets]
        return cls(np.sort(right), np.sort(energy(scores)))

    def threshold(self, mass: float) -> float | None:
        """The probability from which on a domain is taken, so that the right one is with probability `mass`.

        Of all sets with that coverage these are the smallest on average: least ambiguous set-valued
        classifiers (Sadinle, Lei and Wasserman, JASA 2019), by split conformal prediction. None: too few
        texts were held out.
        """
        if len(self.chances) < ENOUGH:
            return None
        place = min(int((1 - mass) * (len(self.chances) + 1) + _CLOSE), len(self.chances))
        return float(self.chances[place - 1]) if place else 0.0

    @property
    def limit(self) -> float | None:
        """The energy below which a text is of no known domain; of known texts one in a hundred is below.

        None: too few texts were held out.
        """
        place = int(NOVEL * (len(self.energies) + 1))
        return float(self.energies[place - 1]) if place else None


@dataclass(frozen=True, slots=True)
class Choice:
    """The domains for one text, and why.

    `routes` are taken, best first; `chances` are all domains with their probabilities, best first.
    `threshold`: the probability that a taken domain has at least (None: their sum decided). An `energy` below
    `limit` means `abstained`: the text is of no known domain, and `routes` are a guess.
    """

    routes: tuple[Route, ...]
    chances: tuple[Route, ...]
    threshold: float | None
    energy: float
    limit: float | None

    @property
    def abstained(self) -> bool:
        return self.limit is not None and self.energy < self.limit

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"abstained": self.abstained}


def choose(
    domains: tuple[str, ...],
    scores: NDArray[np.float64],
    *,
    held: Held,
    mass: float | None = None,
    at_most: int | None = None,
) -> Choice:
    """Domains for a text with these scores (domains,), best first, ties by name, never none.

    Taken are those whose probability reaches the threshold under which the right domain of a share `mass`
    (None: 0.98) of the held-out texts was among the taken. Where too few texts were held out there is no
    threshold: taken are the fewest domains that together hold `mass` (None: 0.9) of the probability, and no
    text is called unknown.

    Raises:
        UsageError: mass is not in (0, 1], or at_most is below one.
    """
    if not (mass is None or 0 < mass <= 1) or (at_most is not None and at_most < 1):
        raise UsageError(
            f"cannot route with mass {mass} and at_most {at_most}", hint="mass is above 0, up to 1"
        )
    chances = np.exp(log_softmax(scores[None]))[0].tolist()
    pairs = sorted(zip(domains, chances, strict=True), key=lambda pair: (-pair[1], pair[0]))
    ranked = tuple(Route(domain, chance) for domain, chance in pairs)
    threshold = held.threshold(mass or MASS)
    taken = sum(threshold is not None and route.probability >= threshold for route in ranked)
    size = max(1, taken) if threshold is not None else _fewest(ranked, mass or SUM)
    found = float(energy(scores[None])[0])
    return Choice(ranked[:size][:at_most], ranked, threshold, found, held.limit)


def energy(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm (n,) of the summed exponentials of scores (n, domains)."""
    found: NDArray[np.float64] = np.logaddexp.reduce(scores, axis=1)
    return found


def log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log probabilities (n, domains)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def _fewest(ranked: tuple[Route, ...], mass: float) -> int:
    """How many of the first hold `mass` of the probability."""
    sums = np.cumsum([route.probability for route in ranked])
    return int((sums < mass - _CLOSE).sum()) + 1
