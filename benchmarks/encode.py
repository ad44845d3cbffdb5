"""Encoding speed of each engine against sentence-transformers, and what it costs in agreement.

    python benchmarks/encode.py DATA [--texts 250] [--rounds 7] [--json FILE]
    python benchmarks/encode.py DATA --int8-loss cacm,cisi,npl_vaswani [--json FILE]

The texts are of 50 to 254 tokens (the model's own limit), from DATA/sysrev, in their order; every way gets
the same list and batches it as it likes. sentence-transformers runs with its default batch of 32 and with 8,
and the ratio is to the faster of both. Agreement is the cosine to the vectors of sentence-transformers, fp32.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
from baselines import bundled_folder
from timing import interleaved, ratio, report

from moe_retrieval import Encoder

WAYS = [
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
]


def texts_of(data: Path, *, count: int) -> list[str]:
    """The first texts of sysrev that have 50 to 254 tokens."""
    encoder = Encoder.load(engine="torch")
    found: list[str] = []
    with (data / "sysrev" / "corpus.jsonl").open(encoding="utf8") as lines:
        for line in lines:
            record = json.loads(line)
            text = f"{record.get('title', '')} {record['text']}".strip()
            if 50 <= encoder.count_tokens(text) <= encoder.token_limit:
                found.append(text)
            if len(found) == count:
                return found
    return found


def measure(texts: list[str], *, rounds: int) -> list[dict[str, object]]:
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(bundled_folder(), device="cpu")
    encoders = {way: Encoder.load(engine=way[0], precision=way[1], device="cpu") for way in WAYS}
    runs: dict[str, Callable[[], object]] = {
        f"sentence-transformers, batch {size}": lambda size=size: plain.encode(texts, batch_size=size)
        for size in (8, 32)
    }
    rivals = list(runs)
    for (engine, precision), encoder in encoders.items():
        runs[f"{engine} {precision}"] = lambda encoder=encoder: encoder.encode_document(texts)
    seconds = interleaved(runs, rounds=rounds)
    best = min(rivals, key=lambda name: statistics.median(seconds[name]))
    exact = plain.encode(texts, batch_size=8)
    rows = []
    for name, taken in seconds.items():
        row: dict[str, object] = {"way": name, "texts/s": round(len(texts) / statistics.median(taken), 1)}
        faster = ratio(seconds[best], taken)
        row |= {"x rival": faster["ratio"], "95%": f"{faster['low']:.2f}-{faster['high']:.2f}"}
        if name not in rivals:
            engine, precision = name.split()
            cosine = (encoders[engine, precision].encode_document(texts) * exact).sum(axis=1)
            row |= {"cosine min": f"{cosine.min():.6f}", "cosine mean": f"{cosine.mean():.6f}"}
        rows.append(row)
    return rows


def int8_loss(data: Path, collections: list[str]) -> list[dict[str, object]]:
    """nDCG@10 of exact search with int8 vectors against fp32 ones; documents cut to one window."""
    import ir_measures
    from ir_measures import nDCG

    rows = []
    for name in collections:
        documents = [json.loads(line) for line in (data / name / "corpus.jsonl").open(encoding="utf8")]
        queries = [json.loads(line) for line in (data / name / "queries.jsonl").open(encoding="utf8")]
        qrels = list(read_qrels(data / name))
        row: dict[str, object] = {"collection": name}
        for precision in ("fp32", "int8"):
            encoder = Encoder.load(engine="onnx", precision=precision, device="cpu")
            texts = [f"{one.get('title', '')} {one['text']}".strip() for one in documents]
            matrix = encoder.encode_document(texts)
            asked = encoder.encode_query([one["text"] for one in queries])
            scores = asked @ matrix.T
            top = np.argsort(-scores, axis=1, kind="stable")[:, :100]
            run = [
                ir_measures.ScoredDoc(
                    str(query["_id"]), str(documents[place]["_id"]), float(scores[at, place])
                )
                for at, query in enumerate(queries)
                for place in top[at]
            ]
            row[precision] = round(ir_measures.calc_aggregate([nDCG @ 10], qrels, run)[nDCG @ 10], 4)
        row["loss"] = round(float(str(row["fp32"])) - float(str(row["int8"])), 4)
        rows.append(row)
    return rows


def read_qrels(folder: Path):  # noqa: ANN201
    """Judgements of a BEIR folder: qrels.tsv, or every file under qrels/."""
    import ir_measures

    files = (
        [folder / "qrels.tsv"]
        if (folder / "qrels.tsv").is_file()
        else sorted((folder / "qrels").glob("*.tsv"))
    )
    for file in files:
        for line in file.read_text("utf-8").splitlines()[1:]:
            query, document, grade = line.split("\t")[:3]
            yield ir_measures.Qrel(query, document, int(float(grade)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--texts", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--int8-loss", default="")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.int8_loss:
        report(int8_loss(given.data, given.int8_loss.split(",")), path=given.json)
        return
    texts = texts_of(given.data, count=given.texts)
    report(measure(texts, rounds=given.rounds), path=given.json, texts=len(texts), rounds=given.rounds)


if __name__ == "__main__":
    main()
