"""Vectors by exported graphs, one per expert; whatever runs them needs no torch once they are exported."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import numpy as np

from moe_retrieval.engines.pooling import padded, pool
from moe_retrieval.errors import ModelError
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from moe_retrieval.engines.batches import Budget
    from moe_retrieval.model.packs import Pack
    from moe_retrieval.model.source import ModelSource


class Runtime(Protocol):
    """A library that runs exported graphs."""

    budget: Budget

    def open(self, expert: str, place: Pack | int) -> Callable[..., NDArray[np.float32]]:
        """A graph, ready to run: from the cache, or exported now. Called with ids and mask (n, tokens), it
        gives hidden states (n, tokens, dim); several threads may call it.

        Raises:
            ModelError: the expert does not fit the model.
        """
        ...


class GraphEngine:
    """An engine over a runtime; only the experts that texts needed are in memory."""

    def __init__(
        self, runtime: Runtime, *, source: ModelSource, experts: Mapping[str, Pack | int], pooling: str
    ) -> None:
        self._runtime = runtime
        self._places: dict[str, Pack | int] = {GENERAL: 0, **experts}
        self._pad = source.config["pad_token_id"] or 0
        self._pooling = pooling
        self._graphs: dict[str, Callable[..., NDArray[np.float32]]] = {}
        self._opening = threading.Lock()
        self.budget = runtime.budget

    def embed(self, token_ids: Sequence[Sequence[int]], *, experts: Sequence[str]) -> NDArray[np.float32]:
        """Pooled vectors (experts, n, dim), not normalised, of the same texts under each expert.

        One graph after the other: side by side they only crowd each other out of the caches.

        Raises:
            ModelError: an expert is unknown, or does not fit the model.
        """
        ids, mask = padded(token_ids, pad=self._pad, multiple=self.budget.multiple)
        return np.stack([pool(self._graph(expert)(ids, mask), mask, how=self._pooling) for expert in experts])

    def prepare(self, expert: str) -> None:
        """Open the expert's graph, and run it once: the first run, of whatever length, takes much longer."""
        ids = np.full((1, self.budget.padded(1)), self._pad, np.int64)
        self._graph(expert)(ids, np.ones_like(ids))

    def _graph(self, expert: str) -> Callable[..., NDArray[np.float32]]:
        if expert in self._graphs:
            return self._graphs[expert]
        with self._opening:
            if expert not in self._graphs:
                place = self._places.get(expert)
                if place is None:
                    raise ModelError(
                        f"the expert {expert[:12]!r} was not loaded",
                        hint="name it when the encoder is loaded",
                    )
                self._graphs[expert] = self._runtime.open(expert, place)
            return self._graphs[expert]
