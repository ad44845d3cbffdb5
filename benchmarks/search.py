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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timing
from search_ways import RECALL, K, Way, by_faiss, by_lance, by_moeret, clustered, stored

QUERIES = 200
LANCE_KINDS = "IVF_FLAT,IVF_SQ,IVF_RQ,IVF_HNSW_SQ"


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

    from moe_retrieval.storage.index import open_index
    from moe_retrieval.storage.indexes import faiss_index, faiss_refresh  # noqa: F401
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
    from moe_retrieval.storage.indexes import exact

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
