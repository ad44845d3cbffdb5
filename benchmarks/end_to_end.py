"""Index 200 abstracts and answer 40 queries, whole processes from start to end, against the rivals.

The abstracts have 50 to 240 tokens: none is cut or split by anyone, all encode the same.

    python benchmarks/end_to_end.py DATA --rivals-python PYTHON [--documents 200] [--queries 40] [--rounds 3]
        [--json FILE]

Ours are the two commands a user types, `moeret index` and `moeret query --queries` (by vector, as the rivals
search), on a fresh store, on each engine; "one process": the same through the Python interface, as the rivals
run; "graph cold" begins without exported graphs. Every rival indexes
and answers in one process, with the same weights and texts; PYTHON is an interpreter that has them:
pip install sentence-transformers txtai chromadb llama-index-core llama-index-embeddings-huggingface lancedb
faiss-cpu.
Byte code of ours is kept from one run to the next, as that of installed packages is.
Also printed: how many of the ten best documents are those of exact search in fp32.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from baselines import bundled_folder
from rivals.index_and_query import RIVALS
from timing import ratio, report

from moe_retrieval import Encoder

OURS = {
    "moeret (openvino bf16)": ("openvino", "bf16"),
    "moeret (openvino bf16), one process": ("openvino", "bf16"),
    "moeret (openvino bf16), graph cold": ("openvino", "bf16"),
    "moeret (torch bf16)": ("torch", "bf16"),
    "moeret (openvino fp32)": ("openvino", "fp32"),
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "ANONYMIZED_TELEMETRY": "False"}
SCRIPT = Path(__file__).parent / "rivals" / "index_and_query.py"


def prepare(data: Path, folder: Path, *, documents: int, queries: int) -> None:
    """The first sysrev abstracts that every system takes whole, as documents.jsonl, and queries.jsonl."""
    encoder = Encoder.load(engine="torch")
    plain: list[dict[str, str]] = []
    titles: list[str] = []
    for line in (data / "sysrev" / "corpus.jsonl").read_text("utf-8").splitlines():
        record = json.loads(line)
        text = f"{record.get('title', '')} {record['text']}".strip()
        if len(plain) < documents and 50 <= encoder.count_tokens(text) <= 240:
            plain.append({"_id": str(record["_id"]), "text": text})
            titles.append(str(record.get("title", "")))
    asked = (data / "sysrev" / "queries.jsonl").read_text("utf-8").splitlines()
    # where the collection has fewer queries, titles of documents make up the rest
    texts = [json.loads(line)["text"] for line in asked] + titles
    chosen = [{"_id": f"q{at}", "text": text[:300]} for at, text in enumerate(texts[:queries])]
    for name, rows in (("documents", plain), ("queries", chosen)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | OFFLINE


def run_ours(name: str, folder: Path, cache: Path) -> tuple[float, dict[str, list[str]]]:
    engine, precision = OURS[name]
    work = Path(tempfile.mkdtemp(dir=folder))
    place = work / "graphs" if "cold" in name else cache
    env = environment() | {"MOERET_STORE": str(work / "store"), "MOERET_CACHE": str(place)}
    env |= {"MOERET_ENGINE": engine, "MOERET_PRECISION": precision}
    if "one process" in name:
        words = [str(folder / "documents.jsonl"), str(folder / "queries.jsonl"), str(work / "store")]
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(SCRIPT.with_name("moeret_in_one_process.py")), *words],
            env=env,
            check=True,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - begun
        shutil.rmtree(work)
        return seconds, json.loads(done.stdout.splitlines()[-1])
    moeret = str(Path(sys.executable).parent / "moeret")
    begun = time.perf_counter()
    index = [moeret, "index", str(folder / "documents.jsonl"), "--domain", "all", "-q"]
    subprocess.run(index, env=env, check=True, capture_output=True)
    asked = ["--queries", str(folder / "queries.jsonl"), "--mode", "vector", "-k", "40", "--json", "-q"]
    done = subprocess.run([moeret, "query", *asked], env=env, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        hit = json.loads(line)
        documents = found.setdefault(hit["query_id"], [])
        if hit["doc_id"] not in documents and len(documents) < 10:
            documents.append(hit["doc_id"])
    shutil.rmtree(work)
    return seconds, found


def run_rival(name: str, folder: Path, python: str) -> tuple[float, dict[str, list[str]]]:
    work = Path(tempfile.mkdtemp(dir=folder))
    words = [str(folder / "documents.jsonl"), str(folder / "queries.jsonl"), bundled_folder(), str(work)]
    begun = time.perf_counter()
    done = subprocess.run(
        [python, str(SCRIPT), name, *words],
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - begun
    shutil.rmtree(work)
    return seconds, json.loads(done.stdout.splitlines()[-1])


def agreement(found: dict[str, list[str]], exact: dict[str, list[str]]) -> float:
    shares = [len({*found.get(query, [])} & {*best}) / len(best) for query, best in exact.items()]
    return round(statistics.mean(shares), 4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--rivals-python", required=True)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="some ways, separated by ;")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    names = [name for name in [*OURS, *RIVALS] if not given.only or name in given.only.split(";")]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    found: dict[str, dict[str, list[str]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = Path(scratch), Path(scratch) / "graphs"
        prepare(given.data, folder, documents=given.documents, queries=given.queries)
        for name in ("moeret (openvino bf16)", "moeret (openvino fp32)"):
            run_ours(name, folder, cache)  # exports the graph, reads all files once
        for number in range(given.rounds):
            random.Random(number).shuffle(names)
            for name in names:
                taken, found[name] = (
                    run_ours(name, folder, cache)
                    if name in OURS
                    else run_rival(name, folder, given.rivals_python)
                )
                seconds[name].append(taken)
    best = min((name for name in names if name in RIVALS), key=lambda name: statistics.median(seconds[name]))
    rows = []
    for name in [name for name in seconds if seconds[name]]:
        against = ratio(seconds[name], seconds[best])
        row: dict[str, object] = {"way": name, "seconds": round(statistics.median(seconds[name]), 2)}
        row |= {"x best rival": against["ratio"], "range": f"{against['low']:.2f}-{against['high']:.2f}"}
        rows.append(row | {"top 10": agreement(found[name], found["sentence-transformers + FAISS"])})
    report(rows, path=given.json, documents=given.documents, queries=given.queries, rounds=given.rounds)


if __name__ == "__main__":
    main()
