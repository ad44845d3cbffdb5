"""Which texts are computed together: of like lengths, within a budget of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that one batch may hold: `tokens` counts the padding to its longest text, too.

    `multiple`: rows are padded further, to a multiple of so many tokens.
    """

    tokens: int
    texts: int
    multiple: int = 1

    def padded(self, length: int) -> int:
        """Tokens of a row whose text has `length`."""
        return -(-length // self.multiple) * self.multiple


def plan_batches(lengths: Sequence[int], *, budget: Budget) -> list[list[int]]:
    """Positions of the texts of each batch, longest first; every position comes exactly once.

    The batch with the most padded tokens comes first: memory is at its peak at once, and does not grow (each
    time it did cost a fifth of a batch's time). The first text of a batch says how long its rows are.
    """
    batches = list(_like_lengths(lengths, budget=budget))
    return sorted(batches, key=lambda batch: -len(batch) * budget.padded(lengths[batch[0]]))


def _like_lengths(lengths: Sequence[int], *, budget: Budget) -> Iterator[list[int]]:
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        full = len(batch) == budget.texts
        if batch and (full or (len(batch) + 1) * lengths[batch[0]] > budget.tokens):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
