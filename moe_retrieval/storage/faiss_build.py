"""Build a FAISS index over a table version: its kind by size, its search effort by measured recall."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.hashing import file_sha256
from moe_retrieval.storage import exact, sidecar
from moe_retrieval.storage.durability import file_faults, replace_file, temporary_name
from moe_retrieval.storage.engine import engine_faults, faiss
from moe_retrieval.storage.rows import VECTOR, to_numpy
from moe_retrieval.storage.sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.found import Found
    from moe_retrieval.storage.view import TableView

FLAT_ROWS = 20_000
GRAPH_ROWS = 200_000
_QUERIES = 200
_TOP = 10
_DEEP = 64
_POINTS_PER_LIST = 64
_EFFORTS = (16, 32, 64, 96, 128, 192, 256, 384, 512)


def factories(rows: int) -> tuple[str, ...]:
    """What to build for so many rows; a later one is for a recall that the earlier cannot reach."""
    if rows < FLAT_ROWS:
        return ("Flat",)
    if rows < GRAPH_ROWS:
        return ("HNSW32,SQ8", "HNSW32")
    return (f"IVF{2 ** int(math.log2(2 * math.sqrt(rows)))},SQ8",)


@dataclass(frozen=True, slots=True)
class _Trial:
    """Stored vectors as queries, with their true neighbours: what an index is measured by."""

    keys: np.ndarray  # int64 (rows of the view)
    own: np.ndarray  # int64 (queries): the key of each query's own row
    queries: np.ndarray  # float32 (queries, dim)
    truth: list[Found]

    @classmethod
    def of(cls, view: TableView) -> _Trial:
        size = min(_QUERIES, view.rows)
        places = np.sort(np.random.default_rng(1).choice(view.rows, size=size, replace=False))
        keys, _ = view.key_vh()
        queries = view.vectors(places)
        return cls(keys, own=keys[places], queries=queries, truth=exact.search_all(view, queries, k=_DEEP))

    def recall(self, index: Any, parameters: Any) -> float:
        """Recall@10 of an index whose positions are the view's row offsets."""
        _, found = index.search(self.queries, _TOP + 1, params=parameters)
        rows = zip(found, self.truth, self.own, strict=True)
        return float(np.mean([_share(self.keys[row[row >= 0]], one, own=own) for row, one, own in rows]))


def build(view: TableView, *, entry: DomainEntry, recall: float) -> tuple[Any, Sidecar]:
    """An index over all rows of the view, and its description without checksums (see `store`).

    The search effort is the least one whose recall@10, on stored vectors against exact search, is at least
    `recall`, or the greatest there is.
    """
    kinds = factories(view.rows)
    if kinds == ("Flat",):
        return _filled(view, "Flat"), _described(view, entry, "Flat", parameters={}, recall=1.0)
    trial = _Trial.of(view)
    for kind in kinds:
        if kind != kinds[-1] and not _precise_enough(view, kind, trial, recall=recall):
            continue
        index = _filled(view, kind)
        parameters, reached = _calibrated(index, kind, trial, recall=recall)
        if reached >= recall:
            break
    return index, _described(view, entry, kind, parameters=parameters, recall=reached)


def store(folder: Path, index: Any, draft: Sidecar, *, view: TableView) -> Sidecar:
    """Write index, rows and side-car, the side-car last, each in one step; the whole side-car comes back.

    The files of the domain's older contents go: the readers of a run's many generations each store one.
    """
    with file_faults("store the index"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{draft.name}.faiss"
    temporary = temporary_name(path)
    try:
        with engine_faults("store the index"):
            faiss().write_index(index, str(temporary))
        with file_faults("store the index"):
            digest, size = file_sha256(temporary), temporary.stat().st_size
            replace_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    keys, hashes = view.key_vh()
    rows = sidecar.write_rows(folder / f"{draft.name}.npz", keys=keys, hashes=hashes)
    done = replace(draft, file_sha256=digest, rows_sha256=rows, bytes=size)
    sidecar.write(folder, done)
    sidecar.remove_superseded(folder, by=done)
    return done


def _filled(view: TableView, factory: str) -> Any:
    with engine_faults(f"build the index of table {view.name}"):
        index = faiss().index_factory(view.dim, factory, faiss().METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(_sample(view, _training_points(view.rows, factory)))
        for batch in view.batches([VECTOR]):
            index.add(np.ascontiguousarray(to_numpy(batch[VECTOR])))
    return index


def _training_points(rows: int, factory: str) -> int:
    lists = _lists(factory)
    return min(rows, max(10_000, _POINTS_PER_LIST * lists))


def _lists(factory: str) -> int:
    head = factory.split(",")[0]
    return int(head.removeprefix("IVF")) if head.startswith("IVF") else 0


def _sample(view: TableView, size: int) -> np.ndarray:
    chosen = np.random.default_rng(0).choice(view.rows, size=min(size, view.rows), replace=False)
    return np.ascontiguousarray(view.vectors(np.sort(chosen)))


def _precise_enough(view: TableView, kind: str, trial: _Trial, *, recall: float) -> bool:
    """Whether the compressed vectors themselves allow the recall: a quick look before a long build."""
    _, _, codec = kind.partition(",")
    return not codec or trial.recall(_filled(view, codec), None) >= recall


def _calibrated(index: Any, kind: str, trial: _Trial, *, recall: float) -> tuple[Mapping[str, int], float]:
    lists, reached = _lists(kind), 0.0
    parameters: dict[str, int] = {}
    for effort in _EFFORTS:
        parameters = {"nlist": lists, "nprobe": min(lists, effort)} if lists else {"efSearch": effort}
        reached = trial.recall(index, _effort(parameters))
        if reached >= recall:
            break
    return parameters, reached


def _effort(parameters: Mapping[str, int]) -> Any:
    if "efSearch" in parameters:
        return faiss().SearchParametersHNSW(efSearch=parameters["efSearch"])
    return faiss().SearchParametersIVF(nprobe=parameters["nprobe"])


def _share(found: np.ndarray, truth: Found, *, own: int) -> float:
    """Share of the ten nearest that were found, the query's own row left out; equals of the tenth count."""
    others = truth.keys != own
    keys, scores = truth.keys[others], truth.scores[others]
    if not len(keys):
        return 1.0
    good = keys[scores >= scores[min(_TOP, len(keys)) - 1] - 1e-6]
    hits = np.isin(found[found != own][:_TOP], good).sum()
    return float(min(1.0, hits / min(_TOP, len(keys))))


def _described(
    view: TableView, entry: DomainEntry, factory: str, *, parameters: Mapping[str, int], recall: float
) -> Sidecar:
    return Sidecar(
        table=view.name,
        version=view.version,
        digest=entry.digest,
        fingerprint=entry.fingerprint,
        factory=factory,
        library=str(faiss().__version__),
        rows=view.rows,
        dim=view.dim,
        parameters=dict(parameters),
        recall_at_10=round(recall, 4),
        file_sha256="",
        rows_sha256="",
        bytes=0,
        built=datetime.now(UTC).isoformat(timespec="seconds"),
    )
