"""How well a store answers judged queries: domain known, routed, in all domains, by each way of joining."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.corpus.collection import read_asked
from moe_retrieval.evaluation.compare import compare
from moe_retrieval.evaluation.judging import judge_run
from moe_retrieval.evaluation.report import EvaluationReport
from moe_retrieval.types import Across, Fusing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from moe_retrieval.corpus.collection import Asked
    from moe_retrieval.evaluation.judging import RankingEvaluation
    from moe_retrieval.retrieval.answer import Answer
    from moe_retrieval.retrieval.retriever import Retriever
    from moe_retrieval.retrieval.snapshot import Snapshot

K = 100
"""Chunks of an answer; a document counts where its best chunk is."""


class Searching(StrEnum):
    """Which domains a query is searched in: its own, those the router picks, or every one."""

    ORACLE = "oracle"
    ROUTED = "routed"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class AnswerWay:
    """A way to answer: where is searched, and how the lists of several vector spaces are joined."""

    searching: Searching
    across: Across = Across.AUTO

    @property
    def name(self) -> str:
        if self.across is Across.AUTO:
            return self.searching.value
        return f"{self.searching.value}, {self.across.value}"


COMPARED = (Across.COSINE, Across.ZSCORE, Across.RRF, Across.CALIBRATED)


@dataclass(frozen=True, slots=True)
class WayCost:
    """What a way costs: domains searched on average, the share of queries whose own was among them (None,
    where no query names one), and seconds of a query: median, 95th of 100, and on average by stage.
    """

    way: str
    queries: int
    searched: float
    right: float | None
    median: float
    slow: float
    stages: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        return {
            "way": self.way,
            "queries": self.queries,
            "searched": self.searched,
            "right": self.right,
            "median": self.median,
            "slow": self.slow,
            "stages": dict(self.stages),
        }


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """Figures of every way as of a model, differences to the first way, and what each costs."""

    figures: EvaluationReport
    costs: tuple[WayCost, ...]

    def to_dict(self) -> dict[str, Any]:
        return self.figures.to_dict() | {"costs": [one.to_dict() for one in self.costs]}


def judge_retrieval(
    retriever: Retriever,
    folder: Path,
    *,
    mass: float | None = None,
    by_group: bool = False,
    samples: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> RetrievalReport:
    """Ask the live generation every judged query of a folder in BEIR layout, one at a time, in every way.

    The ways: the query's own domain, where queries name domains of the store; as routed; all domains; and,
    where domains have experts of their own, routed with each way of joining their scores. The first is what
    the others are compared with. `progress` hears how many queries were answered and how many ways are done.

    Raises:
        UsageError: a file cannot be used, or no query is judged.
        NothingFoundError: the store holds no documents.
        MissingExtraError: ir_measures is not installed.
    """
    asked, snapshot, notes = read_asked(folder), retriever.snapshot(), list[str]()
    named = set(asked.domains) == set(asked.queries)
    evaluations: list[RankingEvaluation] = []
    costs: list[WayCost] = []
    if asked.queries:  # what is loaded at the first query is not a way's cost
        retriever.query_many([*asked.queries.values()][:1], k=K, snapshot=snapshot)
    for way in _ways(asked, snapshot, notes):
        answers: dict[str, Answer] = {}
        for name, text in asked.queries.items():
            own = asked.domains.get(name, "")
            answers[name] = _answer(retriever, text, way, snapshot=snapshot, own=own, mass=mass)
            if progress is not None:
                progress(len(costs) * len(asked.queries) + len(answers), len(costs))
        costs.append(_cost(way, answers, asked.domains))
        evaluations.append(
            judge_run(
                {name: _documents(answer) for name, answer in answers.items()},
                asked.qrels,
                model=way.name,
                data=asked.name,
                domains=asked.domains if named else None,
                by_group=by_group,
                samples=samples,
                seed=seed,
            )
        )
    return RetrievalReport(_figures(evaluations, notes, samples=samples, seed=seed), tuple(costs))


def _figures(
    evaluations: Sequence[RankingEvaluation], notes: Sequence[str], *, samples: int, seed: int
) -> EvaluationReport:
    said = [*notes, *(note for one in evaluations for note in one.warnings)]
    return EvaluationReport(
        models=tuple(one.model for one in evaluations),
        pairs=(),
        rankings=tuple(evaluations),
        matrices=(),
        differences=tuple(compare(evaluations)),
        warnings=tuple(dict.fromkeys(said)),
        seed=seed,
        samples=samples,
    )


def _ways(asked: Asked, snapshot: Snapshot, notes: list[str]) -> Iterator[AnswerWay]:
    """The ways that make a difference here; `notes` says which do not, and why."""
    stray = set(asked.queries) - {name for name, one in asked.domains.items() if one in snapshot.domains}
    if not stray:
        yield AnswerWay(Searching.ORACLE)
    else:
        notes.append(f"{asked.name}: {len(stray)} queries name no domain of the store, so there is no oracle")
    yield AnswerWay(Searching.ROUTED)
    yield AnswerWay(Searching.ALL)
    if len({snapshot.space(name) for name in snapshot.domains}) < 2:
        notes.append("all domains are on one expert, so there is one way to join their scores")
        return
    for across in COMPARED:
        if across is Across.CALIBRATED and set(snapshot.domains) - set(snapshot.calibration):
            notes.append("not every domain is calibrated: there is no calibrated fusion")
        else:
            yield AnswerWay(Searching.ROUTED, across)


def _answer(
    retriever: Retriever, text: str, way: AnswerWay, *, snapshot: Snapshot, own: str, mass: float | None
) -> Answer:
    domains: Sequence[str] | None = None
    match way.searching:
        case Searching.ORACLE:
            domains = [own]
        case Searching.ALL:
            domains = snapshot.domains
        case Searching.ROUTED:
            pass
    fusing = None if way.across is Across.AUTO else Fusing(across=way.across)
    (answer,) = retriever.query_many(
        [text], k=K, domains=domains, mass=mass, snapshot=snapshot, fusing=fusing
    )
    return answer


def _documents(answer: Answer) -> dict[str, float]:
    """Documents by their place, which as a score keeps the order of equals."""
    ranked = dict.fromkeys(hit.doc_id for hit in answer.hits)
    return {name: -float(place) for place, name in enumerate(ranked)}


def _cost(way: AnswerWay, answers: Mapping[str, Answer], domains: Mapping[str, str]) -> WayCost:
    stages: dict[str, float] = defaultdict(float)
    totals, right = [], []
    for name, answer in answers.items():
        totals.append(math.fsum(answer.timings.values()))
        for stage, seconds in answer.timings.items():
            stages[stage] += seconds / len(answers)
        if name in domains:
            right.append(any(route.domain == domains[name] for route in answer.routes))
    median, slow = np.quantile(totals, (0.5, 0.95))
    return WayCost(
        way=way.name,
        queries=len(answers),
        searched=float(np.mean([len(answer.routes) for answer in answers.values()])),
        right=float(np.mean(right)) if right else None,
        median=float(median),
        slow=float(slow),
        stages=dict(stages),
    )
