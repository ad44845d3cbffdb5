"""Ranking quality per collection: vector, text and hybrid with the domain known, against exact search,
bm25s.

    python benchmarks/quality.py DATA [--collections sysrev,cacm] [--work FOLDER] [--json FILE]

DATA holds collections in BEIR layout (corpus.jsonl, queries.jsonl, qrels.tsv; records carry `domain`). Every
system gets the query's domain and ranks that domain's documents only; queries of
more than 254 tokens are cut to 254, for all. nDCG@10 and Recall@100 by ir_measures.

- `vector`, `text`, `hybrid`: moeret, fp32, best chunk per document.
- `exact`: sentence-transformers, same weights, exact search over moeret's own chunks, best chunk per
  document: what `vector` must equal.
- `truncated`: sentence-transformers as it comes, one vector per document, cut at 256 tokens.
- `bm25s`: over whole documents, English stop words.

The last columns compare hybrid with the better of vector and text: mean difference in nDCG@10 with a paired
bootstrap interval (95%, 10,000 resamples of queries). Stores and rival vectors are kept in --work, so a
second run only searches.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from baselines import CACHE, SentenceTransformerBaseline, bundled_folder, load_beir, whole_text

if TYPE_CHECKING:
    from moe_retrieval import Moeret

COLLECTIONS = ("sysrev", "ohsumed_disease", "cacm", "cisi", "npl_vaswani", "medquad", "cocitation_titles")
SYSTEMS = ("vector", "text", "hybrid", "exact", "truncated", "bm25s")
DEPTH = 100
CHUNKS = 400

Run = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Collection:
    """A test collection: documents, judged queries and judgements."""

    name: str
    path: Path
    documents: dict[str, dict]
    queries: dict[str, dict]
    qrels: dict[str, dict[str, int]]

    @classmethod
    def load(cls, path: Path) -> Collection:
        documents, queries, qrels = load_beir(path)
        judged = [name for name in queries if name in qrels]
        texts = cut([queries[name]["text"] for name in judged])
        asked = {name: queries[name] | {"text": text} for name, text in zip(judged, texts, strict=True)}
        return cls(path.name, path, documents, asked, qrels)


def cut(texts: list[str], *, tokens: int = 254) -> list[str]:
    """Texts of at most this many tokens: sentence-transformers drops the rest, moeret would encode it too."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(bundled_folder()) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    found = tokenizer.encode_batch(texts, add_special_tokens=False)
    return [
        text if len(one) <= tokens else text[: one.offsets[tokens - 1][1]]
        for text, one in zip(texts, found, strict=True)
    ]


def indexed(path: Path, work: Path) -> Moeret:
    """The store of a collection, fp32; what is in it already costs nothing."""
    from moe_retrieval import Moeret, Precision
    from moe_retrieval.settings import load_settings

    settings = load_settings(store=work / f"store-{path.name}", precision=Precision.FP32).values
    store = Moeret.open(settings=settings)
    store.index(path / "corpus.jsonl", domain_field="domain")
    return store


def moeret_runs(collection: Collection, work: Path) -> tuple[dict[str, Run], int]:
    """Every mode of moeret, and the number of chunks it searched."""
    from moe_retrieval.types import slug

    store = indexed(collection.path, work)
    by_domain: dict[str, list[str]] = defaultdict(list)
    for name, query in collection.queries.items():
        by_domain[slug(query["domain"])].append(name)
    runs: dict[str, Run] = {mode: {} for mode in ("vector", "text", "hybrid")}
    for mode, run in runs.items():
        for domain, names in by_domain.items():
            texts = [collection.queries[name]["text"] for name in names]
            for name, answer in zip(
                names, store.query_many(texts, k=CHUNKS, mode=mode, domains=[domain]), strict=True
            ):
                run[name] = best_per_document((hit.doc_id, hit.score) for hit in answer.hits)
    return runs, sum(domain.chunks for domain in store.status().domains)


def exact_run(collection: Collection, rival: SentenceTransformerBaseline, work: Path) -> Run:
    """Exact search over the chunks that moeret stored, encoded by sentence-transformers."""
    from moe_retrieval import Store

    store = Store.open(work / f"store-{collection.name}")
    live = store.catalog.latest()
    owners, contents, domains = [], [], []
    for domain, entry in live.domains.items():
        for batch in store.view(entry).batches(("doc_id", "content"), size=4096):
            owners += batch["doc_id"].to_pylist()
            contents += batch["content"].to_pylist()
            domains += [domain] * batch.num_rows
    return vector_run(collection, rival, owners=owners, texts=contents, domains=domains)


def truncated_run(collection: Collection, rival: SentenceTransformerBaseline) -> Run:
    """sentence-transformers as it comes: one vector per document, cut at its own limit."""
    owners = list(collection.documents)
    texts = [whole_text(record) for record in collection.documents.values()]
    domains = [record["domain"] for record in collection.documents.values()]
    return vector_run(collection, rival, owners=owners, texts=texts, domains=domains)


def vector_run(
    collection: Collection,
    rival: SentenceTransformerBaseline,
    *,
    owners: list[str],
    texts: list[str],
    domains: list[str],
) -> Run:
    """Best inner product per document, inside the query's domain."""
    vectors, names = rival.encode(texts), list(collection.queries)
    asked = rival.encode([collection.queries[name]["text"] for name in names])
    labels, run = np.array(domains), {}
    for name, query in zip(names, asked, strict=True):
        rows = np.flatnonzero(labels == collection.queries[name]["domain"])
        scores = vectors[rows] @ query
        best = rows[np.argsort(-scores)[:CHUNKS]]
        run[name] = best_per_document((owners[row], float(vectors[row] @ query)) for row in best)
    return run


def bm25_run(collection: Collection) -> Run:
    """bm25s over whole documents of the query's domain (k1 1.5, b 0.75, English stop words)."""
    import bm25s

    by_domain: dict[str, list[str]] = defaultdict(list)
    for name, record in collection.documents.items():
        by_domain[record["domain"]].append(name)
    run: Run = {}
    for domain, names in by_domain.items():
        texts = [whole_text(collection.documents[name]) for name in names]
        searcher = bm25s.BM25()
        searcher.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
        for query, record in collection.queries.items():
            if record["domain"] == domain:
                tokens = bm25s.tokenize([record["text"]], stopwords="en", show_progress=False)
                places, scores = searcher.retrieve(tokens, k=min(DEPTH, len(names)), show_progress=False)
                pairs = zip(places[0], scores[0], strict=True)
                run[query] = {names[place]: float(score) for place, score in pairs if score > 0}
    return run


def best_per_document(scored: object) -> dict[str, float]:
    """The first DEPTH documents of a ranked list of chunks, each with its best score."""
    best: dict[str, float] = {}
    for document, score in scored:
        best.setdefault(document, score)
    return dict(list(best.items())[:DEPTH])


def per_query(collection: Collection, run: Run) -> dict[str, np.ndarray]:
    """nDCG@10 and Recall@100 of every judged query, in the order of the queries; an empty answer is 0."""
    import ir_measures
    from ir_measures import R, nDCG

    values: dict[str, dict[str, float]] = {"ndcg": {}, "recall": {}}
    for metric in ir_measures.iter_calc([nDCG @ 10, R @ 100], collection.qrels, run):
        values["ndcg" if metric.measure == nDCG @ 10 else "recall"][metric.query_id] = metric.value
    return {name: np.array([found.get(q, 0.0) for q in collection.queries]) for name, found in values.items()}


def bootstrap(
    differences: np.ndarray, *, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean difference with its 95% percentile interval over resampled queries."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(differences), (resamples, len(differences)))
    means = differences[picks].mean(axis=1)
    return float(differences.mean()), float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def measure(path: Path, work: Path) -> dict:
    """All systems on one collection."""
    started = time.perf_counter()
    collection = Collection.load(path)
    rival = SentenceTransformerBaseline(shard=collection.name, cache=work)
    runs, chunks = moeret_runs(collection, work)
    runs["exact"] = exact_run(collection, rival, work)
    runs["truncated"] = truncated_run(collection, rival)
    runs["bm25s"] = bm25_run(collection)
    scores = {system: per_query(collection, run) for system, run in runs.items()}
    better = max(("vector", "text"), key=lambda system: scores[system]["ndcg"].mean())
    difference = bootstrap(scores["hybrid"]["ndcg"] - scores[better]["ndcg"])
    return {
        "collection": collection.name,
        "documents": len(collection.documents),
        "chunks": chunks,
        "queries": len(collection.queries),
        "ndcg@10": {system: round(float(scores[system]["ndcg"].mean()), 4) for system in SYSTEMS},
        "recall@100": {system: round(float(scores[system]["recall"].mean()), 4) for system in SYSTEMS},
        "better": better,
        "hybrid_minus_better": [round(value, 4) for value in difference],
        "seconds": round(time.perf_counter() - started, 1),
    }


def table(results: list[dict]) -> str:
    """The results as a Markdown table."""
    head = [
        "collection",
        "queries",
        "chunks",
        *SYSTEMS,
        "vector - exact",
        "hybrid - better of vector, text (95%)",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for one in results:
        ndcg, recall = one["ndcg@10"], one["recall@100"]
        mean, low, high = one["hybrid_minus_better"]
        cells = [one["collection"], str(one["queries"]), f"{one['chunks']:,}"]
        cells += [f"{ndcg[system]:.4f} ({recall[system]:.3f})" for system in SYSTEMS]
        cells += [
            f"{ndcg['vector'] - ndcg['exact']:+.4f}",
            f"{mean:+.4f} [{low:+.4f}, {high:+.4f}] ({one['better']})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--collections", default=",".join(COLLECTIONS))
    parser.add_argument("--work", type=Path, default=CACHE)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results = []
    for name in given.collections.split(","):
        results.append(measure(given.data / name, given.work))
        print(json.dumps(results[-1]), flush=True)
    print(table(results))
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
