"""Retraining one of five domains: `moeret reindex` against embedding that domain's rows alone.

    python benchmarks/reindex.py [--data FOLDER] [--rows 3000] [--others 500] [--rounds 5] [--json FILE]

A store of five domains is made once, of generated words or of the documents of FOLDER/*/corpus.jsonl. Each
round takes a copy of it in which one domain got another expert, and runs two processes, in an order that
changes: one reindexes the store, the other loads the same encoder and encodes that domain's chunks in one
call, and nothing else. Both are timed from the loading of the encoder to the end. Medians, and the median of
the rounds' ratios, of wall time and of processor time (which other work on the machine disturbs less). The
other four tables must be what they were: their entries, and every file of theirs.
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

from timing import machine

DOMAINS = ("one", "two", "three", "four", "five")
RETRAINED = DOMAINS[0]


def child(task: str, *words: str) -> dict:
    """Run one task of this file in a process of its own; its last line of output is a JSON object."""
    command = [sys.executable, __file__, task, *words]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def reindexing(store: str) -> dict:
    """Reindex a store in which one domain is stale."""
    from moe_retrieval import Moeret

    prepare()
    moeret = Moeret.open(store)
    begun = clocks()
    report = moeret.reindex()
    return {**since(begun), "encoded": report.encoded, "domains": dict(report.domains)}


def encoding(store: str) -> dict:
    """Load the encoder that a reindex would use, and encode the stale domain's chunks."""
    from moe_retrieval import Moeret

    prepare()
    moeret = Moeret.open(store)
    view = moeret.store.view(moeret.store.catalog.latest().domains[RETRAINED])
    texts = [text for batch in view.batches(("content",)) for text in batch["content"].to_pylist()]
    begun = clocks()
    vectors = moeret.reindexer().encoder.encode_document(texts, domain=RETRAINED)
    return {**since(begun), "encoded": len(vectors)}


def prepare() -> None:
    """Import what both tasks use, so that importing is not measured."""
    import faiss  # noqa: F401
    import lance  # noqa: F401

    from moe_retrieval import Encoder

    Encoder.load().encode_document(["warm up"])


def clocks() -> tuple[float, float]:
    """Wall clock and processor time of this process."""
    return time.perf_counter(), time.process_time()


def since(begun: tuple[float, float]) -> dict:
    wall, busy = (now - then for now, then in zip(clocks(), begun, strict=True))
    return {"seconds": wall, "cpu_seconds": busy}


def build(store: Path, sources: dict[str, list[dict]]) -> None:
    """Index every domain."""
    from moe_retrieval import Document, Moeret

    documents = (
        Document(str(one["_id"]), one["text"], title=one.get("title", ""), domain=domain)
        for domain, records in sources.items()
        for one in records
    )
    Moeret.open(store).index_documents(documents)


def retrain(store: Path, folder: Path, *, seed: int) -> None:
    """Make another expert the candidate of one domain."""
    import torch

    from moe_retrieval import Moeret
    from moe_retrieval.engines.bundled import find_model
    from moe_retrieval.model import surgery

    model = surgery.upcycle(find_model(None).folder)
    surgery.add_expert(model, RETRAINED)
    number = surgery.expert_number(model, RETRAINED)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, layer in model.expert_layers:
            for weight in layer.experts[number].parameters():
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.002)
    pack = folder / surgery.export_expert(model, RETRAINED, folder)
    Moeret.open(store).register_expert(RETRAINED, pack)


def untouched(store: Path) -> dict[str, object]:
    """All that is stored of the other four domains: their entries, and the size of each of their files."""
    from moe_retrieval import Store

    live = Store.open(store).catalog.latest()
    others = {name: entry for name, entry in live.domains.items() if name != RETRAINED}
    files = {
        str(path.relative_to(store)): path.stat().st_size
        for entry in others.values()
        for path in sorted((store / "tables" / f"{entry.table}.lance").rglob("*"))
        if path.is_file()
    }
    return {"entries": others, "files": files}


def generated(domain: str, size: int) -> list[dict]:
    """Documents of one chunk each: 8 to 60 words of a vocabulary of its own, and of one that all share."""
    rng = random.Random(domain)
    words = ["".join(rng.choices("abcdefghijklmnoprstuv", k=rng.randint(3, 8))) for _ in range(1_500)]
    shared = random.Random(0)
    words += ["".join(shared.choices("abcdefghijklmnoprstuv", k=shared.randint(3, 8))) for _ in range(1_500)]
    return [
        {"_id": f"{domain}-{number}", "text": " ".join(rng.choices(words, k=rng.randint(8, 60)))}
        for number in range(size)
    ]


def read(data: Path, sizes: dict[str, int]) -> dict[str, list[dict]]:
    """The first documents of five collections below a folder."""
    files = sorted(data.glob("*/corpus.jsonl"))[: len(DOMAINS)]
    if len(files) < len(DOMAINS):
        raise SystemExit(f"{data} holds {len(files)} folders with a corpus.jsonl, not {len(DOMAINS)}")
    found = {}
    for (domain, size), file in zip(sizes.items(), files, strict=True):
        with file.open(encoding="utf8") as stream:
            records = (json.loads(line) for line in stream)
            found[domain] = [one for one, _ in zip(filter(has_text, records), range(size), strict=False)]
    return found


def has_text(record: dict) -> bool:
    return bool(record.get("text", "").strip())


def measure(data: Path | None, *, rows: int, others: int, rounds: int) -> dict:
    """Interleaved rounds of both, after one that does not count."""
    sizes = {domain: rows if domain == RETRAINED else others for domain in DOMAINS}
    sources = (
        read(data, sizes) if data else {domain: generated(domain, size) for domain, size in sizes.items()}
    )
    found: dict[str, list[dict]] = {"reindex": [], "encode": []}
    order = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        build(folder / "store", sources)
        retrain(folder / "store", folder / "packs", seed=1)
        before = untouched(folder / "store")
        for number in range(rounds + 1):
            ways = ["reindex", "encode"]
            order.shuffle(ways)
            for way in ways:
                copy = folder / f"{way}-{number}"
                shutil.copytree(folder / "store", copy)
                done = child(way, str(copy))
                if number:
                    found[way].append(done)
                if way == "reindex" and (list(done["domains"]) != [RETRAINED] or untouched(copy) != before):
                    raise SystemExit(f"another domain was touched: {done}")
                shutil.rmtree(copy)
    return figures(found)


def figures(found: dict[str, list[dict]]) -> dict:
    """Medians, and ratios round by round."""
    both = list(zip(found["reindex"], found["encode"], strict=True))
    if any(one["encoded"] != other["encoded"] for one, other in both):
        raise SystemExit("the two ways encoded different numbers of chunks")
    result: dict = {"chunks": found["encode"][0]["encoded"], "others_untouched": True}
    for name in ("seconds", "cpu_seconds"):
        ratios = [one[name] / other[name] for one, other in both]
        result |= {
            f"reindex_{name}": round(statistics.median(one[name] for one, _ in both), 2),
            f"encode_{name}": round(statistics.median(other[name] for _, other in both), 2),
            f"ratio_{name}": round(statistics.median(ratios), 4),
            f"ratios_{name}": [round(one, 4) for one in ratios],
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=3_000)
    parser.add_argument("--others", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = measure(given.data, rows=given.rows, others=given.others, rounds=given.rounds)
    found["machine"] = machine()
    print(json.dumps(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["reindex"]:
        print(json.dumps(reindexing(sys.argv[2])))
    elif sys.argv[1:2] == ["encode"]:
        print(json.dumps(encoding(sys.argv[2])))
    else:
        main()
