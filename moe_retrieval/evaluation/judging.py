"""Figures of rankings against judgements: of each domain, over domains, and of each query."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.figures import mean_figures, over_domains
from moe_retrieval.evaluation.rankings import MEASURES, per_query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from moe_retrieval.evaluation.figures import Figures

    Run = Mapping[str, Mapping[str, float]]
    Judged = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class RankingEvaluation:
    """One model, or one run, on one set of judged queries: `MEASURES` of each domain, and over the domains.

    `macro`: the mean of the domains (of all queries, where there are none); `pooled`: all queries as one set;
    `per_query`: measure -> query id -> value; `experts`: the expert that each domain went through; `run`: the
    rankings; `warnings`: what a reader of the figures must know.
    """

    model: str
    data: str
    domains: Mapping[str, Figures]
    macro: Figures
    pooled: Figures
    per_query: Mapping[str, Mapping[str, float]] = field(repr=False)
    experts: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    run: Run = field(default_factory=dict, repr=False, compare=False)

    @property
    def scopes(self) -> Iterator[tuple[str, Figures]]:
        """Every domain and what is over them, by name."""
        yield from self.domains.items()
        if self.domains:
            yield "macro", self.macro
        yield "pooled", self.pooled

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            "domains": {name: figures.to_dict() for name, figures in self.domains.items()},
            "macro": self.macro.to_dict(),
            "pooled": self.pooled.to_dict(),
            "experts": dict(self.experts),
            "warnings": list(self.warnings),
            "per_query": {name: dict(values) for name, values in self.per_query.items()},
        }


def judge_run(
    run: Run,
    qrels: Judged,
    *,
    model: str,
    data: str,
    domains: Mapping[str, str] | None = None,
    experts: Mapping[str, str] | None = None,
    by_group: bool = False,
    warnings: Sequence[str] = (),
    samples: int = 1000,
    seed: int = 0,
) -> RankingEvaluation:
    """The figures of a run. Every query of `qrels` counts, with 0 where the run does not answer it.

    `domains`: query id -> domain. `by_group`: queries that share all their relevant documents, as those of
    one systematic review do, are averaged first and resampled together: they are no independent evidence.

    Raises:
        UsageError: nothing is judged, or the run answers no query that is.
        MissingExtraError: ir_measures is not installed.
    """
    if qrels and not set(run) & set(qrels):
        raise UsageError(f"{model} answers no query that {data} judges", hint="do the query ids agree?")
    values = per_query(run, qrels)
    groups = shared_judgements(qrels) if by_group else {query: query for query in qrels}
    of_domain: dict[str, list[str]] = {}
    for query in qrels:
        if domains:
            of_domain.setdefault(domains[query], []).append(query)
    parts = {
        name: _figures(values, of_domain[name], groups, samples=samples, seed=(seed, number))
        for number, name in enumerate(sorted(of_domain), start=1)
    }
    pooled = _figures(values, list(qrels), groups, samples=samples, seed=(seed, 0))
    return RankingEvaluation(
        model=model,
        data=data,
        domains=parts,
        macro=over_domains(list(parts.values())) if parts else pooled,
        pooled=pooled,
        per_query=values,
        experts=dict(experts or {}),
        warnings=(*warnings, *_differing_ids(run, qrels, model=model), *_single(parts, data=data)),
        run=run,
    )


def shared_judgements(qrels: Judged) -> dict[str, str]:
    """Query id -> the first query that has the same relevant documents."""
    first: dict[frozenset[str], str] = {}
    return {
        query: first.setdefault(frozenset(name for name, grade in grades.items() if grade > 0), query)
        for query, grades in qrels.items()
    }


def _figures(
    values: Mapping[str, Mapping[str, float]],
    queries: Sequence[str],
    groups: Mapping[str, str],
    *,
    samples: int,
    seed: Sequence[int],
) -> Figures:
    together: dict[str, list[list[float]]] = {}
    for query in queries:
        together.setdefault(groups[query], []).append([values[name][query] for name in MEASURES])
    items = np.array([np.mean(own, axis=0) for own in together.values()])  # (groups, measures)
    return mean_figures(MEASURES, items, count=len(queries), samples=samples, seed=seed)


def _single(parts: Mapping[str, Figures], *, data: str) -> Iterator[str]:
    """Domains without an interval."""
    if alone := [name for name, figures in parts.items() if figures.items < 2]:
        yield (
            f"{data}: one item only in {', '.join(alone)}: no interval there, and that of macro is too narrow"
        )


def _differing_ids(run: Run, qrels: Judged, *, model: str) -> Iterator[str]:
    """What of a run and of its judgements does not meet."""
    if unjudged := len(set(run) - set(qrels)):
        yield f"{model}: {unjudged} of {len(run)} queries are not judged and do not count"
    if missing := sum(not run.get(query) for query in qrels):
        yield f"{model}: {missing} of {len(qrels)} judged queries have no answer and count 0"
    if not any(name in grades for query, grades in qrels.items() for name in run.get(query, ())):
        yield f"{model}: no document it ranks is judged; do the document ids agree?"
