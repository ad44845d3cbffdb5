"""Which weight the vector search gets in a hybrid score, and what rank fusion would give, per collection.

    python benchmarks/fusion.py DATA [--collections sysrev,cacm] [--work FOLDER] [--json FILE]

The same candidates (100 chunks of either search, the domain known) are fused by `convex` with several weights
and by `reciprocal_rank`. Printed per way: nDCG@10 minus that of the better single search, with a paired
bootstrap interval (95%), over all queries.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

from baselines import CACHE
from quality import COLLECTIONS, Collection, Run, best_per_document, bootstrap, indexed, per_query

WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CANDIDATES = 100


def searched(collection: Collection, work: Path) -> dict[str, dict[str, dict[tuple[str, str], float]]]:
    """Scores by (document, chunk) of each query, by vector and by text."""
    from moe_retrieval.types import slug

    store = indexed(collection.path, work)
    by_domain: dict[str, list[str]] = defaultdict(list)
    for name, query in collection.queries.items():
        by_domain[slug(query["domain"])].append(name)
    found: dict[str, dict[str, dict[tuple[str, str], float]]] = {"vector": {}, "text": {}}
    for mode, lists in found.items():
        for domain, names in by_domain.items():
            texts = [collection.queries[name]["text"] for name in names]
            answers = store.query_many(texts, k=CANDIDATES, mode=mode, domains=[domain])
            for name, answer in zip(names, answers, strict=True):
                lists[name] = {(hit.doc_id, hit.chunk_id): hit.score for hit in answer.hits}
    return found


def fused(found: dict[str, dict[str, dict[tuple[str, str], float]]], way: float | str) -> Run:
    """One run: a single search, rank fusion, or a weighted sum."""
    from moe_retrieval.retrieval.fusion import convex, reciprocal_rank

    run: Run = {}
    for name, vector in found["vector"].items():
        text = found["text"][name]
        if isinstance(way, float):
            scores = convex(vector, text, weight=way)
        elif way == "rrf":
            scores = reciprocal_rank([list(vector), list(text)])
        else:
            scores = found[way][name]
        ranked = sorted(scores, key=lambda place: (-scores[place], place))
        run[name] = best_per_document((document, scores[document, chunk]) for document, chunk in ranked)
    return run


def measure(path: Path, work: Path) -> dict[str, list[float]]:
    """Mean difference with interval, per way of fusing."""
    collection = Collection.load(path)
    found = searched(collection, work)
    single = {way: per_query(collection, fused(found, way))["ndcg"] for way in ("vector", "text")}
    better = max(single.values(), key=lambda values: values.mean())
    ways: tuple[float | str, ...] = ("rrf", *WEIGHTS)
    return {
        str(way): [
            round(value, 4) for value in bootstrap(per_query(collection, fused(found, way))["ndcg"] - better)
        ]
        for way in ways
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--collections", default=",".join(COLLECTIONS))
    parser.add_argument("--work", type=Path, default=CACHE)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results = {}
    for name in given.collections.split(","):
        results[name] = measure(given.data / name, given.work)
        print(name, json.dumps(results[name]), flush=True)
    ways = list(next(iter(results.values())))
    print("| collection | " + " | ".join(ways) + " |\n" + "|---" * (len(ways) + 1) + "|")
    for name, row in results.items():
        print(
            f"| {name} | "
            + " | ".join(f"{m:+.3f} [{lo:+.3f}, {hi:+.3f}]" for m, lo, hi in row.values())
            + " |"
        )
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
