"""The whole pipeline against encoding alone: documents per second, and peak memory as the corpus grows.

    python benchmarks/index.py time DATA [--collection sysrev] [--documents 1500] [--rounds 3] [--json FILE]
    python benchmarks/index.py memory [--sizes 5000,50000] [--json FILE]

`time`: per round, one process indexes the documents into a fresh store (read, chunk, encode, write, index,
publish), and another encodes the very same chunk texts with the same Encoder and nothing else; interleaved,
medians, ratio.
`memory`: peak resident memory of `moeret index` for synthetic corpora of different sizes (short documents,
random words).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def child(task: str, *words: str) -> dict:
    """Run one task of this file in a process of its own; its last line of output is a JSON object."""
    done = subprocess.run(
        [sys.executable, __file__, task, *words],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def pipeline(corpus: str, store: str) -> dict:
    """Index a corpus into a new store; seconds from the call to the report, imports and model loading left
    out.
    """
    import faiss  # noqa: F401 - imported here, so that importing it is not measured
    import lance  # noqa: F401

    from moe_retrieval import Encoder, Moeret

    moeret = Moeret.open(store)
    Encoder.load().encode_document(["warm up"])
    started = time.perf_counter()
    report = moeret.index(corpus, domain="bench")
    return {"seconds": time.perf_counter() - started, "chunks": report.chunks, "peak_mb": peak_mb()}


def encoding(store: str) -> dict:
    """Encode all chunk texts of a store, in windows of the size the indexer uses."""
    from moe_retrieval import Encoder, Store
    from moe_retrieval.retrieval.indexer import IndexOptions

    opened = Store.open(store)
    entry = opened.catalog.latest().domains["bench"]
    window = IndexOptions().window
    texts = [batch["content"].to_pylist() for batch in opened.view(entry).batches(("content",), size=window)]
    encoder = Encoder.load()
    encoder.encode_document(["warm up"])
    started = time.perf_counter()
    for part in texts:
        encoder.encode_document(part)
    return {"seconds": time.perf_counter() - started, "chunks": sum(map(len, texts)), "peak_mb": peak_mb()}


def measure_time(data: Path, collection: str, documents: int, rounds: int) -> dict:
    """Interleaved rounds of pipeline and encoding."""
    lines = (data / collection / "corpus.jsonl").read_text(encoding="utf8").splitlines()[:documents]
    whole, alone = [], []
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        corpus.write_text("\n".join(lines), encoding="utf8")
        for number in range(rounds):
            store = str(Path(folder) / f"store-{number}")
            whole.append(child("pipeline", str(corpus), store))
            alone.append(child("encoding", store))
    seconds = statistics.median(one["seconds"] for one in whole)
    return {
        "collection": collection,
        "documents": len(lines),
        "chunks": whole[0]["chunks"],
        "pipeline_s": round(seconds, 2),
        "encoding_s": round(statistics.median(one["seconds"] for one in alone), 2),
        "ratio": round(
            statistics.median(a["seconds"] / b["seconds"] for a, b in zip(whole, alone, strict=True)), 3
        ),
        "ratios": [round(a["seconds"] / b["seconds"], 3) for a, b in zip(whole, alone, strict=True)],
        "documents_per_s": round(len(lines) / seconds, 1),
        "pipeline_peak_mb": max(one["peak_mb"] for one in whole),
        "encoding_peak_mb": max(one["peak_mb"] for one in alone),
    }


def measure_memory(sizes: list[int]) -> list[dict]:
    """Peak memory of indexing synthetic corpora, each in a process of its own."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            corpus = Path(folder) / f"corpus-{size}.jsonl"
            synthetic(corpus, size)
            found = child("pipeline", str(corpus), str(Path(folder) / f"store-{size}"))
            results.append({"documents": size, **found})
    return results


def synthetic(path: Path, size: int, *, seed: int = 0) -> None:
    """Documents of 3 to 8 random words from a vocabulary of 2,000."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghijklmnoprstuv", k=rng.randint(3, 8))) for _ in range(2_000)]
    with path.open("w", encoding="utf8") as stream:
        for number in range(size):
            words = rng.choices(vocabulary, k=rng.randint(3, 8))
            stream.write(
                json.dumps({"_id": str(number), "text": " ".join(words), "year": 1990 + number % 30}) + "\n"
            )


def peak_mb() -> int:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    timed = tasks.add_parser("time")
    timed.add_argument("data", type=Path)
    timed.add_argument("--collection", default="sysrev")
    timed.add_argument("--documents", type=int, default=1_500)
    timed.add_argument("--rounds", type=int, default=3)
    memory = tasks.add_parser("memory")
    memory.add_argument("--sizes", default="5000,50000")
    for one in (timed, memory):
        one.add_argument("--json", type=Path)
    inner = tasks.add_parser("pipeline")
    inner.add_argument("corpus")
    inner.add_argument("store")
    tasks.add_parser("encoding").add_argument("store")
    given = parser.parse_args()
    match given.task:
        case "pipeline":
            found: object = pipeline(given.corpus, given.store)
        case "encoding":
            found = encoding(given.store)
        case "time":
            found = measure_time(given.data, given.collection, given.documents, given.rounds)
        case _:
            found = measure_memory([int(size) for size in given.sizes.split(",")])
    print(json.dumps(found))
    if getattr(given, "json", None):
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
