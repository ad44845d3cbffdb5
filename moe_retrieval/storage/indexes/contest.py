"""Build each kind of index over a view, in a folder that is thrown away, and measure how it searches."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from moe_retrieval.storage.engine import engine_faults
from moe_retrieval.storage.index import faiss_installed
from moe_retrieval.storage.indexes import exact, faiss_choice, lance_build
from moe_retrieval.storage.indexes.lance_index import LanceIndex
from moe_retrieval.storage.indexes.protocol import FAISS, LANCE, IndexInfo
from moe_retrieval.storage.places.folder import Folder
from moe_retrieval.storage.tables.rows import VECTOR
from moe_retrieval.storage.tables.view import TableView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.found import Found
    from moe_retrieval.storage.indexes.faiss_choice import Kind
    from moe_retrieval.storage.indexes.protocol import VectorIndex

EXACT = "exact"
_LEAST_ROWS = 1_000
"""Fewer are searched exactly by whatever there is: lists and graphs are for more."""
_FEW_QUERIES = 20
_SLOW_LANCE = "IVF_HNSW_SQ"
_TABLE = "bench"


@dataclass(frozen=True, slots=True)
class Figures:
    """How one kind of index searched; times are of one query alone, in milliseconds."""

    engine: str
    kind: str
    build_seconds: float
    megabytes: float
    p50_ms: float
    p99_ms: float
    per_second: float
    recall: float
    setting: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contest:
    """Stored vectors as queries, with their true neighbours, and the folder to build in."""

    view: TableView
    entry: DomainEntry
    folder: Path
    k: int
    recall: float
    queries: np.ndarray  # float32 (n, dim)
    own: np.ndarray  # int64 (n): keys of the queries' rows, which do not count as found
    truth: Sequence[Found]

    @classmethod
    def of(
        cls, view: TableView, *, entry: DomainEntry, folder: Path, k: int, queries: int, recall: float
    ) -> Contest:
        size = min(queries, view.rows)
        offsets = np.sort(np.random.default_rng(3).choice(view.rows, size=size, replace=False))
        own = view.take(offsets, columns=["key"])["key"].to_numpy()
        vectors = view.vectors(offsets)
        truth = exact.search_all(view, vectors, k=k + 1)
        return cls(view, entry, folder, k, recall, vectors, own, truth)

    def names(self) -> list[tuple[str, str]]:
        """Engine and kind of all that take part."""
        kinds = [kind.factory for kind in self._kinds()] if faiss_installed() else []
        own = [EXACT] if self.view.rows < _LEAST_ROWS else [EXACT, *self._lance_kinds()]
        return [*((FAISS, kind) for kind in kinds), *((LANCE, kind) for kind in own)]

    def figures(self) -> Iterator[Figures]:
        """All kinds in turn, as `names` has them."""
        for engine, kind in self.names():
            if engine == FAISS:
                yield self._by_faiss(faiss_choice.Kind(kind))
            elif kind == EXACT:
                yield self._measured(LanceIndex(self.view), LANCE, EXACT, few=True)
            else:
                yield self._by_lance(kind)

    def _kinds(self) -> list[Kind]:
        if self.view.rows < _LEAST_ROWS:
            return [faiss_choice.Kind("Flat"), faiss_choice.Kind("SQ8")]
        likely = faiss_choice.candidates(max(self.view.rows, faiss_choice.FLAT_ROWS), dim=self.view.dim)
        lists = f"IVF{faiss_choice.lists_for(self.view.rows)}"
        fitted = [kind.family.replace("IVF", lists) for kind in likely]
        every = [faiss_choice.Kind(name) for name in ("Flat", "SQ8", *fitted)]
        large = self.view.rows >= faiss_choice.GRAPH_ROWS
        return [kind for kind in every if not (large and kind.graph)]

    def _lance_kinds(self) -> list[str]:
        large = self.view.rows >= faiss_choice.GRAPH_ROWS
        return [kind for kind in lance_build.KINDS if not (large and kind == _SLOW_LANCE)]

    def _by_faiss(self, kind: Kind) -> Figures:
        from moe_retrieval.storage.indexes import faiss_build
        from moe_retrieval.storage.indexes.faiss_index import FaissIndex, load

        begun = time.perf_counter()
        draft = faiss_build.build_one_of(self.view, [kind], entry=self.entry, recall=self.recall)
        about = faiss_build.store(self.folder, draft)
        seconds = time.perf_counter() - begun
        index, slots = load(self.folder, about)
        info = IndexInfo(FAISS, kind.factory, about.rows, parameters=about.parameters)
        searched = FaissIndex(index, view=self.view, slots=slots, info=info)
        return self._measured(
            searched, FAISS, kind.factory, seconds=seconds, size=about.bytes, setting=about.parameters
        )

    def _by_lance(self, kind: str) -> Figures:
        place = Folder(self.folder, durable=False)
        if not place.names(f"tables/{_TABLE}.lance"):
            self._copy(place)
        before = _size(self.folder)
        begun = time.perf_counter()
        lance_build.create(place.dataset(_TABLE), kind=kind)
        view = TableView(place, name=_TABLE, version=int(place.dataset(_TABLE).version))
        setting = lance_build.tune(view, recall=self.recall).setting
        seconds = time.perf_counter() - begun
        index = LanceIndex(view, parameters=setting)
        size = _size(self.folder) - before
        return self._measured(index, LANCE, kind, seconds=seconds, size=size, setting=setting)

    def _copy(self, place: Folder) -> None:
        """The keys and vectors of the view in a table that may be changed."""
        names = ["key", "vh", VECTOR]
        schema = pa.schema([self.view.dataset.schema.field(name) for name in names])
        place.create_dataset(_TABLE, schema.empty_table())
        reader = pa.RecordBatchReader.from_batches(schema, self.view.batches(names))
        with engine_faults("copy the vectors"):
            place.dataset(_TABLE).insert(reader)

    def _measured(
        self,
        index: VectorIndex,
        engine: str,
        kind: str,
        *,
        seconds: float = 0.0,
        size: int = 0,
        setting: Mapping[str, int] | None = None,
        few: bool = False,
    ) -> Figures:
        """Each query alone, then all in one call; `few` are enough where each reads the whole table."""
        some = slice(0, _FEW_QUERIES if few else len(self.queries))
        queries = self.queries[some]
        found, times = [], []
        index.search(queries[:1], k=self.k + 1)
        for query in queries:
            begun = time.perf_counter()
            found.append(index.search(query[None], k=self.k + 1)[0])
            times.append(1000 * (time.perf_counter() - begun))
        begun = time.perf_counter()
        index.search(queries, k=self.k + 1)
        whole = time.perf_counter() - begun
        return Figures(
            engine,
            kind,
            build_seconds=round(seconds, 2),
            megabytes=round(size / 1e6, 1),
            p50_ms=round(float(np.median(times)), 3),
            p99_ms=round(float(np.quantile(times, 0.99)), 3),
            per_second=round(len(queries) / whole, 1),
            recall=round(self._recall(found, some), 4),
            setting=dict(setting or {}),
        )

    def _recall(self, found: Sequence[Found], some: slice) -> float:
        shares = []
        for one, truth, own in zip(found, self.truth[some], self.own[some], strict=True):
            wanted = truth.keys[truth.keys != own][: self.k]
            got = one.keys[one.keys != own][: self.k]
            shares.append(np.isin(wanted, got).mean() if len(wanted) else 1.0)
        return float(np.mean(shares))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
