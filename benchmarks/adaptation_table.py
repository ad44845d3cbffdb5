"""The study's cells as one table: means over domains and seeds, intervals over queries."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from timing import report

from moe_retrieval.evaluation.intervals import paired_bootstrap

SAMPLES = 5_000


def show(work: Path, *, order: Sequence[str], domains: Sequence[str], path: Path | None) -> None:
    """Print and write a line for every cell that was run; cells that were not are named."""
    cells: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in sorted((work / "figures").glob("*.json")):
        one = json.loads(file.read_text("utf-8"))
        cells[one["cell"]].append(one)
    base = cells["base"][0]
    rows = [line(name, cells[name], base, domains) for name in order if cells[name]]
    away = [json.loads(file.read_text("utf-8")) for file in sorted((work / "elsewhere").glob("*.json"))]
    report(rows, path=path, elsewhere=[elsewhere(one) for one in away], not_run=[
        name for name in order if not cells[name]
    ])  # fmt: skip
    for name in order[1:]:
        if cells[name]:
            print(f"\n{name}, by domain")
            report(by_domain(cells[name], base, domains), path=None)
    for one in away:
        print(elsewhere(one))
    print("not run:", ", ".join(name for name in order if not cells[name]) or "none")


def line(
    name: str, runs: Sequence[dict[str, Any]], base: dict[str, Any], domains: Sequence[str]
) -> dict[str, object]:
    """Macro nDCG@10, its relative gain over base with a 95% interval, AUC and F1max, and nDCG by domain."""
    # seeds are averaged per query first: an interval over queries, paired with base
    own = {domain: mean_by_query([run["ndcg"][domain] for run in runs]) for domain in domains}
    theirs = {domain: np.array(list(base["ndcg"][domain].values())) for domain in domains}
    gain, low, high = relative(own, theirs)
    spread = [float(np.mean([np.mean(list(run["ndcg"][one].values())) for one in domains])) for run in runs]
    row: dict[str, object] = {"recipe": name, "seeds": len(runs)}
    row["steps"] = sum(course["steps"] for course in runs[0]["training"].get("courses", []))
    row["nDCG@10 macro"] = f"{np.mean(spread):.4f}"
    row["by seed"] = f"{min(spread):.4f}-{max(spread):.4f}" if len(runs) > 1 else ""
    row["x base, 95%"] = "" if name == "base" else f"{gain:+.1%} ({low:+.1%} to {high:+.1%})"
    for kind, short in (("cocitation_titles", "titles"), ("cocitation_abstracts", "abstracts")):
        for measure, said in (("roc_auc", "AUC"), ("f1_max", "F1max")):
            values = [one[measure] for run in runs for one in run["pairs"][kind].values()]
            row[f"{said} {short}"] = f"{np.mean(values):.4f}"
    return row | {domain: f"{own[domain].mean():.4f}" for domain in domains}


def by_domain(
    runs: Sequence[dict[str, Any]], base: dict[str, Any], domains: Sequence[str]
) -> list[dict[str, object]]:
    """nDCG@10 of each domain, and the paired difference to base with its 95% interval over queries."""
    rows: list[dict[str, object]] = []
    for domain in domains:
        own = mean_by_query([run["ndcg"][domain] for run in runs])
        theirs = np.array(list(base["ndcg"][domain].values()))
        test = paired_bootstrap(own, theirs)
        rows.append(
            {
                "domain": domain,
                "queries": len(own),
                "base": f"{theirs.mean():.4f}",
                "after": f"{own.mean():.4f}",
                "difference, 95%": f"{test.difference:+.4f} ({test.low:+.4f} to {test.high:+.4f})",
            }
        )
    return rows


def mean_by_query(runs: Sequence[dict[str, float]]) -> np.ndarray:
    return np.mean([[run[query] for query in runs[0]] for run in runs], axis=0)


def relative(
    own: dict[str, np.ndarray], theirs: dict[str, np.ndarray], *, seed: int = 0
) -> tuple[float, float, float]:
    """Relative gain of the macro mean, and its interval: queries are drawn anew within each domain."""
    draw = np.random.default_rng(seed)
    ours_drawn, theirs_drawn = np.zeros(SAMPLES), np.zeros(SAMPLES)
    for domain, values in own.items():
        places = draw.integers(0, len(values), (SAMPLES, len(values)))
        ours_drawn += values[places].mean(axis=1) / len(own)
        theirs_drawn += theirs[domain][places].mean(axis=1) / len(own)
    found = np.mean([one.mean() for one in own.values()]) / np.mean([one.mean() for one in theirs.values()])
    low, high = np.quantile(ours_drawn / theirs_drawn - 1, (0.025, 0.975))
    return float(found - 1), float(low), float(high)


def elsewhere(one: dict[str, Any]) -> dict[str, object]:
    means = {
        name: round(float(np.mean(list(own.values()))), 4) for name, own in one["ndcg_elsewhere"].items()
    }
    return {"recipe": one["cell"], "seed": one["seed"], **means, "stsb": round(one["stsb_spearman"], 4)}
