"""Vector search through a store, against FAISS alone and against LanceDB's own indexes, in one run.

    python benchmarks/search.py [--rows 100000,1000000] [--rounds 5] [--lance IVF_RQ,IVF_FLAT]
        [--work DIR] [--json FILE]

A generator makes clustered unit vectors of 384 dimensions; they are stored, with short texts, in a table of a
real store. Every way searches the same queries (none of them stored), one at a time, interleaved; LanceDB's
indexes with the setting that was the fastest to reach the recall wanted. `without texts` ends with keys and
scores, `with texts` with all columns of a hit. `raw FAISS` is the same kind in memory, built from an array.
Opening is timed in fresh processes, from after the imports to the first hits with texts.
DIR keeps the stores for another run (3 GB at a million rows).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import timing

DIM, K, RECALL = 384, 10, 0.98
QUERIES = 200
LANCE_KINDS = "IVF_FLAT,IVF_SQ,IVF_RQ,IVF_HNSW_SQ"

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
    from moe_retrieval.storage.rows import Row, to_batch
    from moe_retrieval.storage.store import Store
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

    from moe_retrieval.storage.faiss_choice import Kind, search_parameters
    from moe_retrieval.storage.view import HIT_COLUMNS

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
    from moe_retrieval.storage import lance_build
    from moe_retrieval.storage.trial import Trial
    from moe_retrieval.storage.view import HIT_COLUMNS, TableView

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


def measured(ways: list[Way], queries: np.ndarray, truth: list[set[int]], *, rounds: int) -> None:
    """Every way in every round, in an order that changes: queries one at a time, then in one batch."""
    order = random.Random(0)
    for way in ways:
        pairs = zip(queries, truth, strict=True)
        shares = [len(set(way.answer(query).tolist()) & best) / K for query, best in pairs]
        way.recall = statistics.fmean(shares)
        way.with_texts(queries[0])
    batches: dict[str, list[float]] = {way.kind: [] for way in ways}
    for _ in range(rounds):
        for way in order.sample(ways, len(ways)):
            way.ms.append([timed(way.answer, query) for query in queries])
        for way in order.sample(ways, len(ways)):
            way.text_ms.append([timed(way.with_texts, query) for query in queries[:100]])
        for way in ways:
            batches[way.kind].append(timed(way.batch, queries))
    for way in ways:
        way.batch_qps = 1000 * len(queries) / statistics.median(batches[way.kind])


def timed(run: Callable[[np.ndarray], object], query: np.ndarray) -> float:
    """Milliseconds of one call."""
    begun = time.perf_counter()
    run(query)
    return 1000 * (time.perf_counter() - begun)


def fetches(view: Any, index_keys: list[np.ndarray], offsets: list[np.ndarray]) -> dict[str, float]:
    """Median ms of getting the k rows of an answer: by offset with the keys checked, and by key."""
    pairs = list(zip(index_keys, offsets, strict=True))
    by_offset = [timed(lambda keys, at=at: view.fetch(keys, offsets=at), keys) for keys, at in pairs]
    by_key = [timed(view.fetch, keys) for keys, _ in pairs[:30]]
    return {"by offset": statistics.median(by_offset), "by key": statistics.median(by_key)}


def opening(folder: Path) -> dict[str, object]:
    """Seconds from after the imports to the first hits with texts, and memory, in a process of its own."""
    import faiss  # noqa: F401
    import lance  # noqa: F401

    from moe_retrieval.storage import faiss_index, faiss_refresh  # noqa: F401
    from moe_retrieval.storage.index import open_index
    from moe_retrieval.storage.store import Store

    query = next(clustered(1, seed=99, clusters=50))[0]
    begun = time.perf_counter()
    store = Store.open(folder)
    entry = store.catalog.latest().domains["bench"]
    view = store.view(entry)
    index = open_index(view, folder=store.indexes_dir, entry=entry, notify=print)
    opened = time.perf_counter()
    keys = index.search(query, k=K)[0].keys
    searched = time.perf_counter()
    rows = view.fetch(keys, offsets=index.offsets(keys))
    ended = time.perf_counter()
    kinds = ("RssAnon", "RssFile")
    lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []
    memory = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in lines if line.startswith(kinds)}
    return {
        "open s": opened - begun,
        "search s": searched - opened,
        "fetch s": ended - searched,
        "all s": ended - begun,
        "hits": rows.num_rows,
        **memory,
    }


def openings(folder: Path, *, times: int) -> dict[str, object]:
    """The first process must hash the index; its median is not among those of the others."""
    from moe_retrieval.hashing import forget_sha256

    for path in (folder / "indexes").iterdir():
        forget_sha256(path)
    runs = []
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, __file__, "--opening", str(folder)], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    rest = sorted(runs[1:], key=lambda one: one["all s"])
    middle = rest[len(rest) // 2]
    shown = {name: round(value, 3) for name, value in middle.items()}
    return {"first process, hashing the file": round(runs[0]["all s"], 3), **shown}


def compare(
    folder: Path, rows: int, *, rounds: int, kinds: list[str]
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """All ways at one size: their rows of the table, and the ratios that the goals are about."""
    from moe_retrieval.storage import exact

    begun = time.perf_counter()
    store = stored(folder, rows)
    entry = store.catalog.latest().domains["bench"]
    view = store.view(entry)
    print(f"{rows} rows stored in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    queries = np.concatenate(list(clustered(QUERIES, seed=2, clusters=max(50, rows // 200))))
    truth = [set(one.keys.tolist()) for one in exact.search_all(view, queries, k=K)]
    ours, info = by_moeret(store, entry)
    ways = [ours, by_faiss(view, info)]
    for kind in kinds:
        ways.append(by_lance(store, entry, kind))
        print(f"{kind} built in {ways[-1].build_s:.0f} s", file=sys.stderr)
    time.sleep(3)  # so that the hash of the new file may be remembered
    measured(ways, queries, truth, rounds=rounds)
    fetch = fetched(store, entry, queries)
    facts = {"rows": rows, **ratios(ways), "fetch of k rows, ms": fetch}
    return [way.row(rows) for way in ways], facts | {"opening": openings(folder, times=6)}


def fetched(store: Any, entry: Any, queries: np.ndarray) -> dict[str, float]:
    from moe_retrieval.storage.index import open_index

    view = store.view(entry)
    index = open_index(view, folder=store.indexes_dir, entry=entry, notify=print)
    keys = [found.keys for found in index.search(queries, k=K)]
    found = fetches(view, keys, [index.offsets(some) for some in keys])
    return {name: round(ms, 3) for name, ms in found.items()}


def ratios(ways: list[Way]) -> dict[str, object]:
    """Medians by round: LanceDB / moeret without texts, moeret / FAISS alone with and without a fetch."""
    ours, alone, *lance = ways
    mine = [statistics.median(one) for one in ours.ms]
    equal = [way for way in lance if way.recall >= min(ours.recall, RECALL) - 0.005]
    found: dict[str, object] = {
        f"{way.kind} / moeret": timing.ratio([statistics.median(one) for one in way.ms], mine)
        for way in lance
    }
    quickest = min(equal or lance, key=lambda way: float(np.median(np.concatenate(way.ms))))
    texts, bare = ([statistics.median(one) for one in way.text_ms] for way in (ours, alone))
    return found | {
        "quickest LanceDB at equal recall": quickest.kind,
        "moeret / raw FAISS": timing.ratio(mine, [statistics.median(one) for one in alone.ms]),
        "moeret with texts / (raw FAISS + fetch)": timing.ratio(texts, bare),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="100000,1000000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lance", default=LANCE_KINDS, help="LanceDB's kinds; IVF_HNSW_SQ builds slowly")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--opening", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.opening:
        print(json.dumps(opening(given.opening)))
        return
    table, facts = [], []
    with tempfile.TemporaryDirectory() as temporary:
        for rows in map(int, given.rows.split(",")):
            folder = (given.work or Path(temporary)) / f"{rows}"
            lines, found = compare(folder, rows, rounds=given.rounds, kinds=given.lance.split(","))
            table += lines
            facts.append(found)
    timing.report(table, path=given.json, facts=facts)
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
