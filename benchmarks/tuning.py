"""What tuning on judged queries is worth: hybrid tuned on the validation halves of seven collections, judged
on the test halves, against the better of vector and text, and beside bm25s and sentence-transformers.

    python benchmarks/tuning.py DATA [--work FOLDER] [--exact all|none|cisi,cacm] [--json FILE]

Six collections lie in the store that benchmarks/mixed.py builds in --work, the seventh (ohsumed_disease) in
one of its own; both are built if they are not there. Each store is tuned as `moeret tune` does, on queries
whose half is that of mixed.py. Every system gets the query's domain. `exact`: sentence-transformers, exact
search over moeret's own chunks; encoding these takes an hour or two on two cores, and vectors are kept in
--work; `--exact` names the collections it is done for.

Printed per collection and pooled: nDCG@10 on test halves, and tuned hybrid minus the better of vector and
text (the better on these very queries), with a paired bootstrap interval (95%, 10,000 resamples).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from baselines import CACHE, SentenceTransformerBaseline
from mixed import COLLECTIONS as MIXED
from mixed import Query, opened, queries, write_corpus
from quality import CHUNKS, Collection, best_per_document, bm25_run, bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from moe_retrieval import Moeret
    from moe_retrieval.calibration import Tuning
    from moe_retrieval.tuning.searches import SearchedQuery

    Run = dict[str, dict[str, float]]

ALONE = "ohsumed_disease"
SYSTEMS = ("vector", "text", "hybrid", "tuned", "exact", "bm25s")


def queries_alone(data: Path) -> list[Query]:
    """The queries of the collection that has a store of its own; its halves are by the rule of mixed.py."""
    from moe_retrieval.types import slug

    held = Collection.load(data / ALONE)
    return [
        Query(f"{ALONE}/{one}", record["text"], ALONE, slug(record["domain"]), held.qrels[one])
        for one, record in held.queries.items()
    ]


def stores(data: Path, work: Path) -> dict[str, Moeret]:
    """The two stores, built where they are not there."""
    found = {"mixed-general": opened(work), "ohsumed": opened(work, name="ohsumed")}
    if not (work / "mixed-general").exists():
        write_corpus(data, work / "mixed.jsonl")
        found["mixed-general"].index(work / "mixed.jsonl", domain_field="domain")
    if not (work / "ohsumed").exists():
        found["ohsumed"].index(data / ALONE / "corpus.jsonl", domain_field="domain")
    return found


def searched(store: Moeret, asked: list[Query]) -> list[SearchedQuery]:
    """The searches of every query in its domain."""
    from moe_retrieval.tuning.queries import JudgedQuery
    from moe_retrieval.tuning.searches import search

    judged = [JudgedQuery(one.id, one.text, one.grades, one.domain, held=one.is_test) for one in asked]
    return search(store.retriever, judged, snapshot=store.retriever.snapshot())


def own_runs(found: list[SearchedQuery], tuning: Tuning) -> dict[str, Run]:
    """The rankings of moeret's ways; scores are places, so that the order stays."""
    from moe_retrieval.types import Mode

    def run(mode: Mode, tuned: Tuning | None = None) -> Run:
        return {
            one.query.id: {
                name: -float(rank) for rank, name in enumerate(one.documents(mode=mode, tuning=tuned))
            }
            for one in found
        }

    return {
        "vector": run(Mode.VECTOR),
        "text": run(Mode.TEXT),
        "hybrid": run(Mode.HYBRID),
        "tuned": run(Mode.HYBRID, tuning),
    }


def exact_run(store: Moeret, asked: list[Query], rival: SentenceTransformerBaseline) -> Run:
    """sentence-transformers, exact search over the chunks of the query's domain, best chunk per document."""
    snapshot = store.retriever.snapshot()
    vectors = dict(zip([one.id for one in asked], rival.encode([one.text for one in asked]), strict=True))
    run: Run = {}
    for domain in sorted({one.domain for one in asked}):
        table = [
            row
            for batch in snapshot.view(domain).batches(("doc_id", "content"))
            for row in zip(batch["doc_id"].to_pylist(), batch["content"].to_pylist(), strict=True)
        ]
        chunks = rival.encode([content for _owner, content in table])
        for one in (one for one in asked if one.domain == domain):
            scores = chunks @ vectors[one.id]
            best = np.argsort(-scores)[:CHUNKS]
            run[one.id] = best_per_document((table[at][0], float(scores[at])) for at in best)
    return run


def text_run(data: Path, name: str, asked: list[Query]) -> Run:
    """bm25s over whole documents, under the ids of the store."""
    prefix = "" if name == ALONE else f"{name}/"
    wanted = {one.id for one in asked}
    return {
        f"{name}/{query}": {f"{prefix}{document}": score for document, score in ranked.items()}
        for query, ranked in bm25_run(Collection.load(data / name)).items()
        if f"{name}/{query}" in wanted
    }


def ndcg(run: Run, asked: list[Query]) -> np.ndarray:
    """nDCG@10 of every query, in their order."""
    from moe_retrieval.evaluation.rankings import per_query

    values = per_query(run, {one.id: one.grades for one in asked})["ndcg_10"]
    return np.array([values[one.id] for one in asked])


def measure(
    data: Path, work: Path, *, exact: Iterable[str]
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Tuning]]:
    """nDCG@10 on the test half, by collection and system, and how each store was tuned."""
    from moe_retrieval.tuning.fitting import chosen_tuning

    asked = {"mixed-general": queries(data), "ohsumed": queries_alone(data)}
    found: dict[str, dict[str, np.ndarray]] = {}
    tunings: dict[str, Tuning] = {}
    for name, store in stores(data, work).items():
        both = searched(store, asked[name])
        tunings[name] = chosen_tuning([one for one in both if not one.query.held], source=name)
        runs = own_runs([one for one in both if one.query.held], tunings[name])
        for collection in MIXED if name == "mixed-general" else (ALONE,):
            test = [one for one in asked[name] if one.collection == collection and one.is_test]
            all_runs = runs | {"bm25s": text_run(data, collection, test)}
            if collection in exact:
                rival = SentenceTransformerBaseline(shard=collection, cache=work)
                all_runs["exact"] = exact_run(store, test, rival)
            found[collection] = {system: ndcg(run, test) for system, run in all_runs.items()}
            print(collection, {system: round(float(v.mean()), 4) for system, v in found[collection].items()},
                  flush=True)  # fmt: skip
    return found, tunings


def summary(found: Mapping[str, Mapping[str, np.ndarray]]) -> list[dict]:
    """One record per collection, and the pooled one."""
    records, differences = [], {"tuned": [], "hybrid": []}
    for name, systems in found.items():
        better = max(("vector", "text"), key=lambda system: systems[system].mean())
        record = {"collection": name, "queries": len(systems["tuned"]), "better": better}
        record["ndcg@10"] = {system: round(float(v.mean()), 4) for system, v in systems.items()}
        for way, all_of in differences.items():
            difference = systems[way] - systems[better]
            all_of.append(difference)
            record[f"{way} - better"] = [round(value, 4) for value in bootstrap(difference)]
        records.append(record)
    pooled = {way: np.concatenate(parts) for way, parts in differences.items()}
    total = {"collection": "pooled", "queries": len(pooled["tuned"]), "better": ""}
    total["ndcg@10"] = {
        system: round(float(np.concatenate([one[system] for one in found.values()]).mean()), 4)
        for system in SYSTEMS
        if all(system in one for one in found.values())
    }
    total |= {f"{way} - better": [round(v, 4) for v in bootstrap(part)] for way, part in pooled.items()}
    return [*records, total]


def table(records: list[dict]) -> str:
    """The records as a Markdown table."""
    head = ["collection", "queries", *SYSTEMS, "tuned - better of vector, text", "untuned - better"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for one in records:
        cells = [one["collection"], f"{one['queries']:,}"]
        cells += [f"{one['ndcg@10'][name]:.4f}" if name in one["ndcg@10"] else "-" for name in SYSTEMS]
        for way in ("tuned", "hybrid"):
            mean, low, high = one[f"{way} - better"]
            cells.append(f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=CACHE)
    parser.add_argument("--exact", default="all")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    import bm25s  # noqa: F401 - missing, it should be missed now, and not after the searches

    exact = {"all": (*MIXED, ALONE), "none": ()}.get(given.exact, tuple(given.exact.split(",")))
    found, tunings = measure(given.data, given.work, exact=exact)
    records = summary(found)
    print(table(records))
    for name, tuning in tunings.items():
        print(name, json.dumps(tuning.to_dict()))
    if given.json:
        result = {"collections": records, "tunings": {name: one.to_dict() for name, one in tunings.items()}}
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
