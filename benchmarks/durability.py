"""What durability costs: the same corpus indexed so that it survives a power cut, and so that it does not.

    python benchmarks/durability.py [--documents 1000] [--rounds 5] [--folder FOLDER] [--json FILE]

Each round indexes a made-up corpus into a fresh store on the file system of FOLDER twice, in processes of
their own, with durability `power` and `process`, in turn first; bundled encoder, default settings. The cost
is the median over the rounds of the quotient of the two times, from the call to the report; `syncing` is the
share of the time that a durable run spent in syncs, which a busy machine blurs less. A run syncs one
file system and a few small files per published generation, so the share falls as the corpus grows, and rises
with what else the machine writes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODES = ("power", "process")


def child(corpus: str, store: str, mode: str) -> None:
    """Index a corpus into a new store; prints seconds and what was done as JSON."""
    import faiss  # noqa: F401 - imported here, so that importing it is not measured
    import lance  # noqa: F401
    import lancedb  # noqa: F401

    from moe_retrieval import Encoder, Moeret
    from moe_retrieval.settings import Settings
    from moe_retrieval.storage.places import folder
    from moe_retrieval.types import Durability

    Encoder.load().encode_document(["warm up"])
    waited = [timed(os, "fsync"), timed(folder, "sync_filesystem")]
    moeret = Moeret.open(settings=Settings(store=Path(store), durability=Durability(mode)))
    started = time.perf_counter()
    report = moeret.index(corpus, domain_field="domain")
    seconds = time.perf_counter() - started
    told = {"seconds": seconds, "chunks": report.chunks, "generation": report.generation}
    print(json.dumps(told | {"syncing": sum(map(sum, waited))}))


def timed(owner: Any, name: str) -> list[float]:
    """Seconds of every call of a function from now on."""
    function, spent = getattr(owner, name), []

    def measured_call(*arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            spent.append(time.perf_counter() - started)

    setattr(owner, name, measured_call)
    return spent


def measured(corpus: Path, folder: Path, mode: str) -> dict:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [sys.executable, __file__, "child", str(corpus), f"{place}/store", mode]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        os.sync()  # what this round wrote is not to fall into the next
    return json.loads(done.stdout.splitlines()[-1])


def measure(documents: int, rounds: int, folder: Path) -> dict:
    """Interleaved rounds of both modes."""
    found: dict[str, list[dict]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        corpus = Path(place) / "corpus.jsonl"
        synthetic(corpus, documents)
        for number in range(rounds):
            for mode in MODES if number % 2 else MODES[::-1]:
                found[mode].append(measured(corpus, Path(place), mode))
    seconds = {mode: [one["seconds"] for one in found[mode]] for mode in MODES}
    ratios = [power / process for power, process in zip(seconds["power"], seconds["process"], strict=True)]
    return {
        "documents": documents,
        "chunks": found["power"][0]["chunks"],
        "generations": found["power"][0]["generation"],
        "power_s": round(statistics.median(seconds["power"]), 2),
        "process_s": round(statistics.median(seconds["process"]), 2),
        "cost": round(statistics.median(ratios) - 1, 4),
        "syncing": round(statistics.median(one["syncing"] / one["seconds"] for one in found["power"]), 4),
        "ratios": [round(one, 3) for one in ratios],
    }


def synthetic(path: Path, size: int, *, seed: int = 0) -> None:
    """Documents of 40 to 300 made-up words in three domains."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghijklmnoprstuv", k=rng.randint(3, 8))) for _ in range(2_000)]
    with path.open("w", encoding="utf8") as stream:
        for number in range(size):
            text = " ".join(rng.choices(vocabulary, k=rng.randint(40, 300)))
            stream.write(json.dumps({"_id": str(number), "text": text, "domain": f"d{number % 3}"}) + "\n")


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = measure(given.documents, given.rounds, given.folder.resolve())
    print(json.dumps(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
