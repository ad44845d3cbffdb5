"""A routed hybrid query over five domains, warm: how long, and in which stage; against one index of all.

    python benchmarks/query.py [--rows 100000] [--queries 400] [--rounds 5] [--batch 1000]
        [--batch-rounds 3] [--work DIR] [--json FILE]

Documents of 12 to 30 words, drawn by Zipf's law from a vocabulary of 3,000 words of each domain's own and
1,000 that all share (whole words of the bundled tokenizer), are embedded by the bundled encoder and stored
twice: in five domains, and, with the same vectors, in one table. The queries are 4 to 8 words of documents.
Ways: the routed hybrid query; all five domains; the best of fifty told apart; the one table, hybrid; the one
table by vector alone, which is what a plain dense index does. They take turns, query by query. Stages are the
answer's timings: domains are searched side by side, so `vector` and `text` are those of the slowest.
DIR keeps the stores for another run.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import timing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval import Answer, Moeret

DOMAINS = ("one", "two", "three", "four", "five")
OWN, SHARED = 3_000, 1_000


@dataclass(frozen=True)
class Asked:
    """A query, and the domain of the document that its words are from."""

    text: str
    domain: str


@dataclass
class Way:
    """One way to answer, and what was measured of it."""

    name: str
    answer: Callable[[str], Answer]
    seconds: list[list[float]] = field(default_factory=list)  # by round
    stages: dict[str, list[float]] = field(default_factory=dict)

    def take(self, text: str) -> None:
        """Answer once, as a part of the newest round."""
        begun = time.perf_counter()
        found = self.answer(text)
        self.seconds[-1].append(time.perf_counter() - begun)
        for stage, seconds in found.timings.items():
            self.stages.setdefault(stage, []).append(seconds)

    def row(self) -> dict[str, object]:
        every = np.concatenate(self.seconds)
        stages = {f"{stage} p50 / p99": quantiles(seconds) for stage, seconds in self.stages.items()}
        return {"way": self.name, "p50 / p99 ms": quantiles(every), **stages}


def quantiles(seconds: list[float] | np.ndarray) -> str:
    """Median and 99th percentile in milliseconds."""
    low, high = np.quantile(seconds, [0.5, 0.99]) * 1000
    return f"{low:.2f} / {high:.2f}"


def vocabularies() -> dict[str, list[str]]:
    """Words of each domain's own, and those all share, by frequency; always the same."""
    from baselines import bundled_folder
    from tokenizers import Tokenizer

    known = Tokenizer.from_file(f"{bundled_folder()}/tokenizer.json").get_vocab()
    words = sorted(word for word in known if word.isascii() and word.isalpha() and len(word) > 3)
    random.Random(1).shuffle(words)
    parts = {domain: words[at * OWN : (at + 1) * OWN] for at, domain in enumerate(DOMAINS)}
    return parts | {"shared": words[len(DOMAINS) * OWN :][:SHARED]}


def documents(rows: int, *, seed: int) -> Iterator[tuple[str, str]]:
    """(domain, text), the domains in turn; six words of ten are the domain's own."""
    words, draw = vocabularies(), np.random.default_rng(seed)
    odds = {name: np.arange(2, len(part) + 2) ** -1.0 for name, part in words.items()}
    sure = {name: weights / weights.sum() for name, weights in odds.items()}
    for at in range(rows):
        domain = DOMAINS[at % len(DOMAINS)]
        own = int(0.6 * (size := int(draw.integers(12, 31))))
        chosen = [*draw.choice(words[domain], own, p=sure[domain])]
        chosen += [*draw.choice(words["shared"], size - own, p=sure["shared"])]
        yield domain, " ".join(draw.permutation(chosen))


def asked(number: int, *, corpus: Path) -> list[Asked]:
    """Queries: some words of documents of the store."""
    draw, lines = random.Random(2), corpus.read_text("utf8").splitlines()
    records = [json.loads(line) for line in draw.sample(lines, number)]
    return [
        Asked(" ".join(draw.sample(one["text"].split(), draw.randint(4, 8))), one["domain"])
        for one in records
    ]


def stores(folder: Path, rows: int) -> tuple[Moeret, Moeret]:
    """The store of five domains and that of one table with the same rows; made unless they are there."""
    from moe_retrieval import Moeret

    five, one = Moeret.open(folder / f"five-{rows}"), Moeret.open(folder / f"one-{rows}")
    corpus = folder / f"{rows}.jsonl"
    if not corpus.is_file():
        with corpus.open("w", encoding="utf8") as stream:
            for at, (domain, text) in enumerate(documents(rows, seed=0)):
                stream.write(json.dumps({"_id": str(at), "text": text, "domain": domain}) + "\n")
    begun = time.perf_counter()
    report = five.index(corpus, domain_field="domain")
    print(f"{report.encoded} chunks encoded in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    if not (folder / f"one-{rows}" / "store.json").is_file():
        copied(five, folder / f"one-{rows}")
    return five, one


def copied(five: Moeret, folder: Path) -> None:
    """The rows of all domains, with their vectors, in one table of a store of its own."""
    from moe_retrieval import Store
    from moe_retrieval.generations import live_generation
    from moe_retrieval.retrieval.indexing import Indexing
    from moe_retrieval.retrieval.publisher import publish

    entries = live_generation(five.store).domains
    store = Store.open(folder, create=True)
    views = [five.store.view(entry) for entry in entries.values()]
    fingerprint = next(iter(entries.values())).fingerprint
    table = store.create_table("all", dim=views[0].dim, fingerprint=fingerprint)
    for view in views:
        for batch in view.batches(size=20_000):
            table.write(batch)
    table.maintain()
    entry = table.entry(expert="general", precision=next(iter(entries.values())).precision)
    encoder = five.encoder()
    publish(store, {"all": entry}, live=None, encoder=encoder, refit=False, indexing=Indexing())


def measured(ways: list[Way], queries: list[Asked], *, rounds: int) -> None:
    """Every query by every way, in an order that changes; what was answered before the rounds is warm-up."""
    order = random.Random(0)
    for one in queries[:50]:
        for way in ways:
            way.answer(one.text)
    for _ in range(rounds):
        for way in ways:
            way.seconds.append([])
        for one in order.sample(queries, len(queries)):
            for way in order.sample(ways, len(ways)):
                way.take(one.text)


def routing(way: Way, queries: list[Asked]) -> dict[str, float]:
    """Domains per query, and the share of queries that go to the domain of their document."""
    answers = [way.answer(one.text) for one in queries]
    right = [
        one.domain in {route.domain for route in answer.routes}
        for one, answer in zip(queries, answers, strict=True)
    ]
    sizes = [len(answer.routes) for answer in answers]
    return {"mean fan-out": statistics.fmean(sizes), "right domain searched": statistics.fmean(right)}


def agreement(one: Way, other: Way, queries: list[Asked]) -> float:
    """Mean share of the ten best documents that two ways have in common."""
    pairs = [(one.answer(query.text), other.answer(query.text)) for query in queries]
    shared = [len({hit.doc_id for hit in a.hits} & {hit.doc_id for hit in b.hits}) / 10 for a, b in pairs]
    return statistics.fmean(shared)


def throughput(stores: dict[str, Moeret], texts: list[str], *, rounds: int) -> dict[str, float]:
    """Queries per second of one call with all texts, by store; the median of the rounds."""
    seconds = timing.interleaved(
        {name: lambda store=store: store.query_many(texts) for name, store in stores.items()},
        rounds=rounds,
    )
    return {name: len(texts) / statistics.median(taken) for name, taken in seconds.items()}


def compare(
    five: Moeret, one: Moeret, queries: list[Asked], *, rounds: int
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """The rows of the table, and what was found beside it."""
    from moe_retrieval.retrieval.refine import Refinement

    diverse = Refinement(mmr=0.7)
    routed = Way("five domains, routed", five.query)
    every = Way("five domains, all searched", lambda text: five.query(text, domains=DOMAINS))
    refined = Way("routed, the best of 50 by --mmr 0.7", lambda text: five.query(text, refine=diverse))
    table = Way("one table, hybrid", one.query)
    dense = Way("one table, vector alone", lambda text: one.query(text, mode="vector"))
    ways = [routed, every, refined, table, dense]
    measured(ways, queries, rounds=rounds)
    medians = {way.name: [statistics.median(part) for part in way.seconds] for way in ways}
    facts: dict[str, object] = {
        f"routed / {way.name}": timing.ratio(medians[routed.name], medians[way.name])
        for way in (table, dense, every)
    }
    facts["refined / routed"] = timing.ratio(medians[refined.name], medians[routed.name])
    facts |= {name: round(value, 4) for name, value in routing(routed, queries).items()}
    facts["top 10 of routed and one table in common"] = round(agreement(routed, table, queries), 4)
    return [way.row() for way in ways], facts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--batch-rounds", type=int, default=3)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        five, one = stores(folder, given.rows)
        corpus = folder / f"{given.rows}.jsonl"
        queries = asked(given.queries, corpus=corpus)
        rows, facts = compare(five, one, queries, rounds=given.rounds)
        many = [query.text for query in asked(given.batch, corpus=corpus)]
        found = throughput({"five domains, routed": five, "one table": one}, many, rounds=given.batch_rounds)
        facts[f"batch of {given.batch}, queries/s"] = {name: round(speed, 1) for name, speed in found.items()}
        timing.report(rows, path=given.json, facts=facts, chunks=given.rows, rounds=given.rounds)
        print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
