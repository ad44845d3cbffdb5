"""Search once, fuse in many ways: what the searches of judged queries found, and how good a way makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.evaluation.rankings import quick_ndcg
from moe_retrieval.retrieval.fusion import fuse
from moe_retrieval.types import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from moe_retrieval.calibration import DomainCalibration, Tuning
    from moe_retrieval.retrieval.fusion import Place, Searched
    from moe_retrieval.retrieval.retriever import Retriever
    from moe_retrieval.retrieval.snapshot import Snapshot
    from moe_retrieval.tuning.queries import JudgedQuery
    from moe_retrieval.types import Fusing

K = 10
CHUNKS = 60
"""Chunks that are fused, so that ten documents are among them."""

_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class SearchedQuery:
    """The lists of every searched domain, and the document that each found chunk is of."""

    query: JudgedQuery
    lists: tuple[Searched, ...]
    owners: Mapping[Place, str]

    def documents(
        self,
        *,
        mode: Mode = Mode.HYBRID,
        fusing: Fusing | None = None,
        calibration: Mapping[str, DomainCalibration] | None = None,
        tuning: Tuning | None = None,
    ) -> list[str]:
        """Documents as these ways of fusing rank them, each where its best chunk is."""
        ranked = fuse(self.lists, mode=mode, k=CHUNKS, fusing=fusing, calibration=calibration, tuning=tuning)
        return list(dict.fromkeys(self.owners[one.domain, one.key] for one in ranked))

    def ndcg(
        self,
        *,
        fusing: Fusing | None = None,
        calibration: Mapping[str, DomainCalibration] | None = None,
        tuning: Tuning | None = None,
    ) -> float:
        """nDCG@10 of these ways of fusing."""
        ranked = self.documents(fusing=fusing, calibration=calibration, tuning=tuning)[:K]
        grades = self.query.grades
        numbers = {name: at for at, name in enumerate(dict.fromkeys([*grades, *ranked]))}
        places = np.array([[numbers[name] for name in ranked]], np.int64)
        judged = {numbers[name]: float(grade) for name, grade in grades.items()}
        return float(quick_ndcg(places, [judged], k=K)[0])

    def judged_cosines(self, domain: str, *, depth: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The best cosines (n,) in a domain, and whether each is of a relevant document."""
        found = next((one.vector for one in self.lists if one.domain == domain), None)
        if found is None:
            return np.zeros(0, np.float32), np.zeros(0, np.bool_)
        grades = self.query.grades
        relevant = [grades.get(self.owners[domain, int(key)], 0) > 0 for key in found.keys[:depth]]
        return found.scores[:depth], np.array(relevant, np.bool_)


def search(
    retriever: Retriever,
    queries: Sequence[JudgedQuery],
    *,
    snapshot: Snapshot,
    routed: bool = False,
    mass: float | None = None,
    progress: Callable[[int], None] = lambda _count: None,
) -> list[SearchedQuery]:
    """The searches of every query, in its domain; with `routed`, or where it names none, where the router
    sends it.

    `progress` hears how many queries were searched since it was told last.
    """
    parts: dict[str, list[int]] = {}
    for at, query in enumerate(queries):
        parts.setdefault("" if routed else query.domain, []).append(at)
    found: dict[int, tuple[Searched, ...]] = {}
    for domain, places in parts.items():
        for start in range(0, len(places), _AT_ONCE):
            some = places[start : start + _AT_ONCE]
            texts = [queries[at].text for at in some]
            named = [domain] if domain else None
            lists = retriever.search_many(texts, k=K, domains=named, mass=mass, snapshot=snapshot)
            found.update(zip(some, lists, strict=True))
            progress(len(some))
    owners = _owners(snapshot, [one for lists in found.values() for one in lists])
    return [SearchedQuery(query, found[at], owners) for at, query in enumerate(queries)]


def _owners(snapshot: Snapshot, searched: Sequence[Searched]) -> dict[Place, str]:
    """The document of every chunk found: one read per domain."""
    keys: dict[str, list[NDArray[np.int64]]] = {}
    for one in searched:
        keys.setdefault(one.domain, []).extend(part.keys for part in (one.vector, one.text) if part)
    owners: dict[Place, str] = {}
    for domain, parts in keys.items():
        wanted = np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
        offsets = snapshot.index(domain).offsets(wanted)
        table = snapshot.view(domain).fetch(wanted, offsets=offsets, columns=["doc_id"])
        names = table["doc_id"].to_pylist()
        owners |= {(domain, int(key)): name for key, name in zip(wanted, names, strict=True)}
    return owners
