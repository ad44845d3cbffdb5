"""One query from a cold process, `moeret query`, against a sentence-transformers + LanceDB script.

    python benchmarks/coldstart.py --rivals-python PYTHON [--rows 10000] [--rounds 7] [--json FILE]

Both hold the same rows of random words in five domains, and answer the same question from a fresh process:
ours with the domain given, and routed; on each engine. PYTHON has sentence-transformers and lancedb.
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
from collections.abc import Callable
from pathlib import Path

from baselines import bundled_folder
from timing import interleaved, ratio, report

SCRIPT = Path(__file__).parent / "rivals" / "cold_query.py"
QUESTION = "does aspirin lower the risk of stroke?"
DOMAINS = ("cvd", "copd", "skin", "parasitic", "autoimmune")


def synthetic(path: Path, rows: int) -> None:
    """Rows of 8 to 20 words, each domain with a vocabulary of its own beside a common one."""
    draw = random.Random(0)
    words = {
        domain: ["".join(draw.choices("abcdefghijklmnoprstuv", k=draw.randint(3, 8))) for _ in range(600)]
        for domain in (*DOMAINS, "common")
    }
    with path.open("w", encoding="utf8") as stream:
        for at in range(rows):
            domain = DOMAINS[at % len(DOMAINS)]
            chosen = draw.choices(words[domain] + words["common"], k=draw.randint(8, 20))
            stream.write(json.dumps({"_id": str(at), "text": " ".join(chosen), "domain": domain}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rivals-python", required=True)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        synthetic(folder / "rows.jsonl", given.rows)
        env = os.environ | {"HF_HUB_OFFLINE": "1", "MOERET_STORE": str(folder / "store")}
        env |= {"MOERET_CACHE": str(folder / "graphs")}
        moeret = str(Path(sys.executable).parent / "moeret")

        def run(*words: str, **more: str) -> None:
            subprocess.run(words, env=env | more, check=True, capture_output=True)

        run(moeret, "index", str(folder / "rows.jsonl"), "--domain-field", "domain", "-q")
        theirs = (bundled_folder(), str(folder / "lance"))
        run(given.rivals_python, str(SCRIPT), "build", str(folder / "rows.jsonl"), *theirs)
        rival = "sentence-transformers + LanceDB"
        ways: dict[str, Callable[[], object]] = {
            rival: lambda: run(given.rivals_python, str(SCRIPT), "query", QUESTION, *theirs)
        }
        for engine in ("openvino", "onnx", "torch"):
            for label, words in (("routed", ()), ("--domain", ("--domain", "cvd"))):
                # onnxruntime has no bf16
                more = {"MOERET_ENGINE": engine} | ({"MOERET_PRECISION": "fp32"} if engine == "onnx" else {})
                ways[f"moeret query ({engine}), {label}"] = lambda words=words, more=more: run(
                    moeret, "query", QUESTION, *words, **more
                )
        seconds = interleaved(ways, rounds=given.rounds)
    rows = []
    for name, taken in seconds.items():
        found = ratio(taken, seconds[rival])
        row: dict[str, object] = {"way": name, "seconds": round(statistics.median(taken), 2)}
        rows.append(row | {"x rival": found["ratio"], "95%": f"{found['low']:.3f}-{found['high']:.3f}"})
    report(rows, path=given.json, rows_stored=given.rows, rounds=given.rounds)


if __name__ == "__main__":
    main()
