"""The ways that search.py compares, and the store of made vectors that they search."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

DIM, K, RECALL = 384, 10, 0.98

Answer = Callable[[np.ndarray], np.ndarray]
"""A query, float32 (384,), in; int64 keys out."""


def clustered(rows: int, *, seed: int, clusters: int) -> Iterator[np.ndarray]:
    """Unit vectors in blocks, float32: clusters in 96 latent dimensions of falling weight, and some noise."""
    space = np.random.default_rng(7)
    weights = np.arange(1, 97, dtype=np.float32) ** -0.3
    weights /= np.linalg.norm(weights)
    basis = np.linalg.qr(space.normal(size=(DIM, 96)))[0].T.astype(np.float32)
    centres = space.normal(size=(clusters, 96)).astype(np.float32) * weights
    draw = np.random.default_rng(seed)
    for start in range(0, rows, 10_000):
        size = min(10_000, rows - start)
        latent = 0.55 * draw.normal(size=(size, 96)).astype(np.float32) * weights
        latent += centres[draw.integers(0, clusters, size=size)]
        block = latent @ basis + 0.25 / DIM**0.5 * draw.normal(size=(size, DIM)).astype(np.float32)
        yield block / np.linalg.norm(block, axis=1, keepdims=True)


def stored(folder: Path, rows: int) -> Any:
    """The store with one table of so many rows, made unless it is there."""
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.rows import Row, to_batch
    from moe_retrieval.types import Chunk

    made = (folder / "store.json").is_file()
    store = Store.open(folder, create=True, durable=False)
    if made and (live := store.catalog.latest()) and live.domains["bench"].rows == rows:
        return store
    table = store.create_table("bench", dim=DIM, fingerprint="made-by-a-generator")
    words, at = random.Random(0), 0
    for block in clustered(rows, seed=1, clusters=max(50, rows // 200)):
        texts = [f"{words.getrandbits(400):x} " * 3 for _ in block]
        chunks = [Chunk(f"d{at + n}", "made", 0, 0, len(text), text) for n, text in enumerate(texts)]
        table.write(to_batch([Row(chunk, parts=1, doc_hash=1, metadata={}) for chunk in chunks], block))
        at += len(block)
    table.compact()
    created = "2026-01-01T00:00:00+00:00"
    store.catalog.publish({"bench": table.entry(expert="general")}, model={"name": "none"}, created=created)
    return store


@dataclass(slots=True)
class Way:
    """One way to search: what it took to build, how it answers, and what was measured."""

    name: str
    kind: str
    build_s: float
    megabytes: float
    answer: Answer
    with_texts: Callable[[np.ndarray], object]
    batch: Callable[[np.ndarray], object]
    ms: list[list[float]] = field(default_factory=list)  # by round
    text_ms: list[list[float]] = field(default_factory=list)
    recall: float = 0.0
    batch_qps: float = 0.0

    def row(self, rows: int) -> dict[str, object]:
        every, texts = np.concatenate(self.ms), np.concatenate(self.text_ms)
        return {
            "rows": rows,
            "way": self.name,
            "kind": self.kind,
            "build s": round(self.build_s, 1),
            "MB": round(self.megabytes),
            "recall@10": round(self.recall, 4),
            "p50 ms": round(float(np.median(every)), 3),
            "p99 ms": round(float(np.quantile(every, 0.99)), 3),
            "batch q/s": round(self.batch_qps),
            "texts p50 ms": round(float(np.median(texts)), 3),
            "texts p99 ms": round(float(np.quantile(texts, 0.99)), 3),
        }


def by_moeret(store: Any, entry: Any) -> tuple[Way, Any]:
    """The store's own index, opened as a query opens it."""
    from moe_retrieval.storage.index import build_index, open_index

    view = store.view(entry)
    for path in store.indexes_dir.iterdir():
        path.unlink()
    begun = time.perf_counter()
    info = build_index(view, folder=store.indexes_dir, entry=entry, recall=RECALL)
    seconds = time.perf_counter() - begun
    index = open_index(view, folder=store.indexes_dir, entry=entry, notify=print)

    def with_texts(query: np.ndarray) -> object:
        keys = index.search(query, k=K)[0].keys
        return view.fetch(keys, offsets=index.offsets(keys))

    way = Way(
        "moeret",
        f"{info.factory} {dict(info.parameters)}",
        seconds,
        sum(path.stat().st_size for path in store.indexes_dir.iterdir()) / 1e6,
        lambda query: index.search(query, k=K)[0].keys,
        with_texts,
        lambda queries: index.search(queries, k=K),
    )
    return way, info


def by_faiss(view: Any, info: Any) -> Way:
    """FAISS alone: the same kind and effort, trained and filled from an array in memory."""
    import faiss

    from moe_retrieval.storage.indexes.faiss_choice import Kind, search_parameters
    from moe_retrieval.storage.tables.view import HIT_COLUMNS

    vectors, (keys, _), lists = view.vectors(), view.key_vh(), Kind(info.factory).lists
    begun = time.perf_counter()
    index = faiss.index_factory(DIM, info.factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        size = min(len(vectors), max(10_000, 40 * lists))
        index.train(vectors[np.random.default_rng(0).choice(len(vectors), size, replace=False)])
    index.add(vectors)
    seconds = time.perf_counter() - begun
    del vectors
    parameters = search_parameters(info.parameters)

    def answer_at(query: np.ndarray) -> np.ndarray:
        return index.search(query[None], K, params=parameters)[1][0]

    size_mb = len(faiss.serialize_index(index)) / 1e6
    return Way(
        "raw FAISS",
        info.factory,
        seconds,
        size_mb,
        lambda query: keys[answer_at(query)],
        lambda query: view.take(answer_at(query), columns=HIT_COLUMNS),
        lambda queries: index.search(queries, K, params=parameters),
    )


def by_lance(store: Any, entry: Any, kind: str) -> Way:
    """LanceDB's own index, at a version of its own of the same table."""
    from moe_retrieval.storage.indexes import lance_build
    from moe_retrieval.storage.indexes.trial import Trial
    from moe_retrieval.storage.tables.view import HIT_COLUMNS, TableView

    folder = store.path / "tables" / f"{entry.table}.lance" / "_indices"
    before = size_of(folder)
    begun = time.perf_counter()
    lance_build.create(store.place.dataset(entry.table), kind=kind)
    seconds = time.perf_counter() - begun
    version = int(store.place.dataset(entry.table).version)
    view = TableView(store.place, name=entry.table, version=version)

    def searching(setting: dict[str, int], columns: tuple[str, ...] = ("key",)) -> Callable[..., Any]:
        def search(query: np.ndarray, k: int = K) -> Any:
            nearest = {"column": "vector", "q": query, "k": k, "metric": lance_build.METRIC, **setting}
            return view.dataset.scanner(columns=[*columns, "_distance"], nearest=nearest).to_table()

        return search

    def keyed(setting: dict[str, int]) -> Any:
        plain = searching(setting)
        return lambda query, k: plain(query[0], k)["key"].to_numpy()

    ladders = [
        [{"nprobes": probes, "refine_factor": factor} for probes in (2, 4, 8, 16, 32, 64, 128)]
        for factor in (1, 2, 4)
    ]
    chosen = dict(Trial.of(view, queries=60).tune(keyed, ladders, recall=RECALL).setting)
    plain, texts = searching(chosen), searching(chosen, HIT_COLUMNS)
    return Way(
        "LanceDB",
        f"{kind} {chosen}",
        seconds,
        (size_of(folder) - before) / 1e6,
        lambda query: plain(query)["key"].to_numpy(),
        lambda query: texts(query),
        lambda queries: plain(queries),
    )


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
