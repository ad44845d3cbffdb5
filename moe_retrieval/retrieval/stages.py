"""How long each stage of a query took."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


class Stage(StrEnum):
    """What a query goes through, in this order."""

    ROUTE = "route"
    ENCODE = "encode"
    VECTOR = "vector"
    TEXT = "text"
    FUSE = "fuse"
    FETCH = "fetch"
    RERANK = "rerank"
    ORDER = "order"  # boosted, and told apart
    WIDEN = "widen"


class Stages:
    """Seconds by stage, added up over every `with stages.of(...)`. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, stage: Stage) -> Iterator[None]:
        """Time what is done inside."""
        started = self.clock()
        try:
            yield
        finally:
            self.seconds[stage.value] += self.clock() - started


def slowest(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Per stage the longest of what ran side by side."""
    longest: dict[str, float] = {}
    for part in parts:
        for stage, seconds in part.items():
            longest[stage] = max(seconds, longest.get(stage, 0.0))
    return longest


def shared(seconds: Mapping[str, float], *, by: int) -> dict[str, float]:
    """Each text's equal part of what a batch of `by` took."""
    return {stage: value / max(1, by) for stage, value in seconds.items()}
