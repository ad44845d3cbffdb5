"""Is an answer as good as if the domain had been known, and which way of joining experts is best?

    python benchmarks/mixed_fusion.py DATA [--work FOLDER] [--layout LAYOUT] [--json FILE]

The stores are those that benchmarks/mixed.py builds in --work: that of the layout with experts must be there
(`--experts`), some domains of it on trained experts, each a vector space of its own. Every judged query is
searched in all domains once (a quarter of an hour on two cores; kept in --work), the rest is joining lists.
The router and what "judged" below is fitted to see validation queries only; all figures are of test queries.

Where: `oracle` searches the query's own domain; `collection` all domains of the query's collection, as if
that were known and no more (mixed layout); `routed` what the router takes; `all` every domain
(of this, as it takes long, every third query). Where not the oracle decides, each domain is as probable as
the router says.
Ways across vector spaces: cosines as they are; z-score by space; reciprocal ranks; probabilities of
relevance, calibrated on the store's own statistics, or on judged validation queries where a domain has
enough.
Planted: the cosines of two spaces are rescaled (0.5 c + 0.4; 0.8 c - 0.1), as if these experts had another
scale; what is calibrated is calibrated on the rescaled ones.

Printed: nDCG@10, and differences with a paired bootstrap interval (95%, 10,000 resamples).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from baselines import CACHE
from mixed import LAYOUTS, Query, fitted_router, opened, queries
from quality import bootstrap
from router import calibration_error

from moe_retrieval.calibration import DomainCalibration
from moe_retrieval.retrieval.calibrating import FEWEST, as_written, in_use, sampled_cosines
from moe_retrieval.retrieval.fusion import SURE_ROUTE_POWER, Searched
from moe_retrieval.storage.found import Found
from moe_retrieval.tuning.queries import JudgedQuery
from moe_retrieval.tuning.searches import SearchedQuery
from moe_retrieval.types import Across, Fusing, Mode, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from moe_retrieval import Moeret
    from moe_retrieval.router import Router

    Calibration = Mapping[str, DomainCalibration]

DEPTH = 100
WAYS = (Across.COSINE, Across.ZSCORE, Across.RRF, Across.CALIBRATED)
PLANTED = ((0.5, 0.4), (0.8, -0.1))
PLACES = {"oracle": 1, "collection": 1, "routed": 1, "all": 3}
"""Where is searched, and every how many-th test query is judged there."""

RIVALS = ("cosine", "zscore", "rrf")


@dataclass(frozen=True)
class Lists:
    """The best chunks of every query (n) in one domain: keys and scores (n, 100), -1 where there are none."""

    vector_keys: np.ndarray
    vector_scores: np.ndarray
    text_keys: np.ndarray
    text_scores: np.ndarray

    @classmethod
    def empty(cls, size: int) -> Lists:
        keys, scores = np.full((size, DEPTH), -1, np.int64), np.zeros((size, DEPTH), np.float32)
        return cls(keys, scores, keys.copy(), scores.copy())

    @classmethod
    def restored(cls, columns: Mapping[str, np.ndarray], domain: str) -> Lists:
        return cls(**{one.name: columns[f"{domain}|{one.name}"] for one in fields(cls)})

    def columns(self, domain: str) -> dict[str, np.ndarray]:
        return {f"{domain}|{one.name}": getattr(self, one.name) for one in fields(self)}

    def put(self, at: int, found: Searched) -> None:
        for name, part in (("vector", found.vector), ("text", found.text)):
            if part is not None:
                count = min(DEPTH, len(part.keys))
                getattr(self, f"{name}_keys")[at, :count] = part.keys[:count]
                getattr(self, f"{name}_scores")[at, :count] = part.scores[:count]

    def get(self, at: int, route: Route, *, space: str, planted: tuple[float, float]) -> Searched:
        near, match = self.vector_keys[at] >= 0, self.text_keys[at] >= 0
        scale, shift = planted
        cosines = (self.vector_scores[at][near] * scale + shift).astype(np.float32)
        return Searched(
            route.domain,
            space=space,
            probability=route.probability,
            vector=Found(self.vector_keys[at][near], cosines),
            text=Found(self.text_keys[at][match], self.text_scores[at][match]),
            route_power=SURE_ROUTE_POWER,
        )


@dataclass(frozen=True)
class Held:
    """All that is computed once: queries, their lists by domain, the chunks' documents, the router's view."""

    asked: list[Query]
    lists: Mapping[str, Lists]
    owners: Mapping[tuple[str, int], str]
    spaces: Mapping[str, str]
    routed: list[tuple[Route, ...]]
    all: list[tuple[Route, ...]]

    def routes(self, where: str, at: int) -> tuple[Route, ...]:
        match where:
            case "oracle":
                return (Route(self.asked[at].domain, 1.0),)
            case "collection":
                own = {one.domain for one in self.asked if one.collection == self.asked[at].collection}
                return tuple(one for one in self.all[at] if one.domain in own)
            case "routed":
                return self.routed[at]
            case _:
                return self.all[at]

    def search(self, where: str, at: int, planted: Mapping[str, tuple[float, float]]) -> SearchedQuery:
        """As the store would have searched for this query."""
        one = self.asked[at]
        judged = JudgedQuery(one.id, one.text, one.grades, one.domain, held=one.is_test)
        found = tuple(
            self.lists[route.domain].get(
                at,
                route,
                space=self.spaces[route.domain],
                planted=planted.get(self.spaces[route.domain], (1.0, 0.0)),
            )
            for route in self.routes(where, at)
        )
        return SearchedQuery(judged, found, self.owners)


def searched(store: Moeret, asked: list[Query], *, kept: Path) -> dict[str, Lists]:
    """Every query in every domain, vector and full text; remembered in a file."""
    domains = store.retriever.snapshot().domains
    if kept.is_file():
        with np.load(kept) as held:
            if held["ids"].tolist() == [one.id for one in asked]:
                return {name: Lists.restored(held, name) for name in domains}
    lists = {name: Lists.empty(len(asked)) for name in domains}
    for start in range(0, len(asked), 64):
        texts = [one.text for one in asked[start : start + 64]]
        for at, found in enumerate(store.retriever.search_many(texts, domains=list(domains)), start=start):
            for one in found:
                lists[one.domain].put(at, one)
    columns = {name: column for domain, one in lists.items() for name, column in one.columns(domain).items()}
    np.savez(kept, ids=np.array([one.id for one in asked]), **columns)
    return lists


def encoded(store: Moeret, asked: list[Query], *, kept: Path) -> np.ndarray:
    """Vectors of all queries under the general expert; remembered in a file."""
    ids = [one.id for one in asked]
    if kept.is_file():
        with np.load(kept) as known:
            if known["ids"].tolist() == ids:
                return known["vectors"]
    vectors = store.encoder().encode_query([one.text for one in asked])
    np.savez(kept, ids=np.array(ids), vectors=vectors)
    return vectors


def taught(store: Moeret, asked: list[Query], vectors: np.ndarray) -> Router:
    """The store's router, fitted to validation queries besides."""
    from moe_retrieval.router_queries import KnownQueries

    known = [at for at, one in enumerate(asked) if not one.is_test]
    return fitted_router(store).asked(
        KnownQueries.of(
            [asked[at].text for at in known], vectors[known], domains=[asked[at].domain for at in known]
        )
    )


def held(store: Moeret, asked: list[Query], *, kept: Path) -> Held:
    """All of that store; `kept` is what its files' names begin with."""
    lists = searched(store, asked, kept=kept.with_name(f"{kept.name}-lists.npz"))
    snapshot = store.retriever.snapshot()
    owners = {
        (domain, key): name
        for domain in snapshot.domains
        for batch in snapshot.view(domain).batches(("key", "doc_id"))
        for key, name in zip(batch["key"].to_pylist(), batch["doc_id"].to_pylist(), strict=True)
    }
    vectors = encoded(store, asked, kept=kept.with_name(f"{kept.name}-queries.npz"))
    router = taught(store, asked, vectors)
    choices = [router.choose(vector, one.text) for vector, one in zip(vectors, asked, strict=True)]
    return Held(
        asked,
        lists,
        owners,
        {domain: snapshot.space(domain) for domain in snapshot.domains},
        [one.chances if one.abstained else one.routes for one in choices],
        [one.chances for one in choices],
    )


def by_statistics(store: Moeret, planted: Mapping[str, tuple[float, float]]) -> Calibration:
    """What the store itself would go by, had its experts these scales."""
    generation = store.store.catalog.latest()
    known = {}
    for domain, entry in generation.domains.items():
        if entry.rows >= FEWEST:
            scale, shift = planted.get(entry.fingerprint, (1.0, 0.0))
            cosines = sampled_cosines(store.store, entry) * scale + shift
            known[domain] = DomainCalibration.from_statistics(cosines, fingerprint=entry.fingerprint)
    return in_use(replace(generation, calibration=as_written(known)))


def by_judgements(held: Held, rest: Calibration, planted: Mapping[str, tuple[float, float]]) -> Calibration:
    """Fitted on validation queries where these are enough; the rest by statistics."""
    from moe_retrieval.tuning.fitting import fit_calibrations

    known = [held.search("oracle", at, planted) for at, one in enumerate(held.asked) if not one.is_test]
    return dict(rest) | fit_calibrations(known, space=held.spaces.__getitem__)


def ndcg(
    found: Sequence[SearchedQuery], *, mode: Mode, across: Across, calibration: Calibration
) -> np.ndarray:
    """nDCG@10 (n,) of every query."""
    from moe_retrieval.evaluation.rankings import per_query

    fusing = Fusing(across=across)
    run = {
        one.query.id: {
            name: -float(rank)
            for rank, name in enumerate(one.documents(mode=mode, fusing=fusing, calibration=calibration))
        }
        for one in found
    }
    values = per_query(run, {one.query.id: one.query.grades for one in found})["ndcg_10"]
    return np.array([values[one.query.id] for one in found])


def judged(
    held: Held,
    calibrations: Mapping[str, Calibration],
    planted: Mapping[str, tuple[float, float]],
    *,
    places: Sequence[str],
    report: Callable[[str], None],
) -> dict[str, dict[str, np.ndarray]]:
    """nDCG@10 of test queries by place, mode and way."""
    test = [at for at, one in enumerate(held.asked) if one.is_test]
    table: dict[str, dict[str, np.ndarray]] = {}
    for where in places:
        found = [held.search(where, at, planted) for at in test[:: PLACES[where]]]
        for mode in (Mode.VECTOR, Mode.HYBRID):
            row = {
                name: ndcg(found, mode=mode, across=way, calibration=calibration)
                for name, way, calibration in ways(where, calibrations)
            }
            table[f"{where} {mode}"] = row
            report(f"{where} {mode} { ({name: round(float(v.mean()), 4) for name, v in row.items()}) }")
    return table


def ways(where: str, calibrations: Mapping[str, Calibration]) -> Iterator[tuple[str, Across, Calibration]]:
    """Name, way and calibration; one domain has nothing to join."""
    if where == "oracle":
        yield "auto", Across.AUTO, {}
        return
    for way in WAYS[:-1]:
        yield way.value, way, {}
    for name, calibration in calibrations.items():
        yield f"calibrated, {name}", Across.CALIBRATED, calibration


def several(held: Held) -> np.ndarray:
    """Which test queries were routed to more than one vector space: where routed, only these can differ."""
    test = [at for at, one in enumerate(held.asked) if one.is_test]
    return np.array([len({held.spaces[one.domain] for one in held.routed[at]}) > 1 for at in test])


def summary(
    table: Mapping[str, Mapping[str, np.ndarray]], joined: np.ndarray, collections: np.ndarray
) -> list[dict]:
    """Means, routed minus oracle, also by the collection of each query, calibrated minus each rival."""
    records = []
    for name, row in table.items():
        where, mode = name.split()
        record = {"where": where, "mode": mode, "ndcg@10": {way: float(v.mean()) for way, v in row.items()}}
        oracle = table[f"oracle {mode}"]["auto"][:: PLACES[where]]
        record["minus oracle"] = {way: bootstrap(v - oracle) for way, v in row.items()}
        mine = [way for way in row if way.startswith("calibrated")]
        record["calibrated minus"] = {
            f"{way} - {rival}": bootstrap(row[way] - row[rival]) for way in mine for rival in RIVALS
        }
        if where == "routed":
            lost = row[mine[0]] - oracle
            record["minus oracle, by collection"] = {
                f"{one}, {mine[0]}": bootstrap(lost[collections == one]) for one in dict.fromkeys(collections)
            }
            record["calibrated minus, of several spaces"] = {
                f"{way} - {rival}": bootstrap((row[way] - row[rival])[joined])
                for way in mine
                for rival in RIVALS
            }
        records.append(record)
    return records


def spoken(records: list[dict]) -> str:
    """The records as lines."""
    lines = []
    for one in records:
        lines.append(f"{one['where']} {one['mode']}")
        lines += [f"    {way:28}{value:.4f}" for way, value in one["ndcg@10"].items()]
        for head in (
            "minus oracle",
            "minus oracle, by collection",
            "calibrated minus",
            "calibrated minus, of several spaces",
        ):
            for way, (mean, low, high) in one.get(head, {}).items():
                lines.append(f"    {head}: {way:40}{mean:+.4f} [{low:+.4f}, {high:+.4f}]")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=CACHE)
    parser.add_argument("--layout", choices=LAYOUTS, default="mixed")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    layout = LAYOUTS[given.layout]
    if not (given.work / f"{given.layout}-experts").exists():
        parser.error("build the stores first: python benchmarks/mixed.py DATA --experts ...")
    started = time.perf_counter()
    store = opened(given.work, name=f"{given.layout}-experts")
    known = held(store, queries(given.data, layout), kept=given.work / f"{given.layout}-fusion")
    test = [at for at, one in enumerate(known.asked) if one.is_test]
    own = sorted({space for space in known.spaces.values() if space != known.spaces["cacm"]})
    joined = several(known)
    likeliest = [max(known.all[at], key=lambda one: one.probability) for at in test]
    right = np.array([one.domain == known.asked[at].domain for one, at in zip(likeliest, test, strict=True)])
    facts = {
        "test queries": len(test),
        "domains": len(known.spaces),
        "accuracy": float(right.mean()),
        "calibration error": calibration_error(np.array([one.probability for one in likeliest]), right),
        "vector spaces": len(own) + 1,
        "fan-out": float(np.mean([len(known.routed[at]) for at in test])),
        "right domain searched": float(
            np.mean([known.asked[at].domain in {one.domain for one in known.routed[at]} for at in test])
        ),
        "queries of several spaces": int(joined.sum()),
    }
    print(json.dumps(facts, indent=1), flush=True)
    result: dict = {"facts": facts}
    for name, planted in {"as they are": {}, "planted": dict(zip(own, PLANTED, strict=False))}.items():
        statistics = by_statistics(store, planted)
        calibrations = {"statistics": statistics, "judged": by_judgements(known, statistics, planted)}
        found = judged(
            known,
            calibrations,
            planted,
            places=[one for one in PLACES if not (layout.whole and one == "collection")],
            report=lambda line: print(f"{time.perf_counter() - started:.0f} s", line, flush=True),
        )
        result[name] = summary(found, joined, np.array([known.asked[at].collection for at in test]))
        print(f"\n{name}\n{spoken(result[name])}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
