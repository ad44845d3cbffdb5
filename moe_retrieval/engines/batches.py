"""Which texts are computed together: of like lengths, within a budget of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that one batch may hold: `tokens` counts padding, too."""

    tokens: int
    texts: int


def plan_batches(lengths: Sequence[int], *, budget: Budget) -> Iterator[list[int]]:
    """Positions of the texts of each batch, longest first; every position comes exactly once.

    Longest first: memory is at its peak at once, and the first text of a batch says how long its rows are.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        full = len(batch) == budget.texts
        if batch and (full or (len(batch) + 1) * lengths[batch[0]] > budget.tokens):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
