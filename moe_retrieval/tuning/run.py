"""Tune a store on judged queries: choose on one half, keep what gains on the other."""

from __future__ import annotations

from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.intervals import paired_bootstrap
from moe_retrieval.retrieval.calibrating import as_written, calibration_of, in_use
from moe_retrieval.retrieval.publisher import retune
from moe_retrieval.retrieval.routing import taught_router
from moe_retrieval.tuning.fitting import RELEVANT, chosen_tuning, fit_calibrations
from moe_retrieval.tuning.queries import read_queries
from moe_retrieval.tuning.report import Part, Trial, TuneReport
from moe_retrieval.tuning.searches import search

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from moe_retrieval.calibration import DomainCalibration, Tuning
    from moe_retrieval.evaluation.intervals import PairedTest
    from moe_retrieval.retrieval.retriever import Retriever
    from moe_retrieval.retrieval.snapshot import Snapshot
    from moe_retrieval.router import Router
    from moe_retrieval.storage.store import Store
    from moe_retrieval.tuning.queries import JudgedQuery
    from moe_retrieval.tuning.searches import SearchedQuery

FEWEST = 10
"""Queries of either half: fewer say nothing."""

MARGIN = 0.01
"""nDCG@10 that a router may lose at most, if it saves searches."""


def tune(
    retriever: Retriever,
    folder: Path,
    *,
    dry_run: bool = False,
    mass: float | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _count: None,
) -> TuneReport:
    """Fit to the judged queries of a folder in BEIR layout what a store's answers are joined by.

    Chosen on the half to choose by (`read_queries`): the weights of the hybrid score, for the store and for
    its domains (`weights.choose`), the router, which learns the domains that queries name, and, where domains
    have experts of their own, the calibration of each. A part is kept only where it gains on the held-out
    half; what is kept is published as one generation, and no other run writes meanwhile. Nothing is, with
    `dry_run`. `progress` hears how many queries were searched.

    Raises:
        UsageError: a file cannot be used, queries are too few, or the store has none of their documents.
        NothingFoundError: the store holds no documents.
        StoreBusyError: another process is writing.
    """
    with nullcontext() if dry_run else retriever.store.lease():
        snapshot = retriever.snapshot()
        work = _Work(retriever, snapshot, mass=mass, seed=seed, progress=progress)
        return _tuned(work, folder, read_queries(folder, known=snapshot.domains), dry_run=dry_run)


def _tuned(work: _Work, folder: Path, queries: Sequence[JudgedQuery], *, dry_run: bool) -> TuneReport:
    """The report, and the generation of what is kept."""
    chosen_by = [one for one in queries if not one.held]
    held = [one for one in queries if one.held]
    _check(folder, chosen_by, held)
    live, store = work.snapshot, work.retriever.store
    known, judged = work.searched(chosen_by), work.searched(held)
    _check_documents(folder, known)
    tuning, weights = work.weights(known, judged, source=folder.resolve().name)
    router, routing = work.router(chosen_by, held)
    calibration, scales = work.calibration(known, held)
    report = TuneReport(
        source=folder.resolve().name,
        queries=len(chosen_by),
        held=len(held),
        tuning=tuning,
        calibration=calibration,
        trials=(weights, routing, scales),
        warnings=tuple(_warnings(queries)),
    )
    if dry_run or not report.gains:
        return report
    generation = retune(
        store,
        live=live.generation,
        tuning=tuning if weights.kept else replace(live.tuning, created=tuning.created),
        calibration=calibration if scales.kept else None,
        router=_saved(store, router) if router and routing.kept else None,
    )
    return replace(report, generation=generation.number)


def _saved(store: Store, router: Router) -> str:
    name = router.save(store.routers_dir)
    store.place.share(f"routers/{name}.safetensors")
    return name


def _check(folder: Path, chosen_by: Sequence[JudgedQuery], held: Sequence[JudgedQuery]) -> None:
    if min(len(chosen_by), len(held)) < FEWEST:
        raise UsageError(
            f"{folder} has too few queries: {len(chosen_by)} to choose by and {len(held)} held out",
            hint=f"judge more queries: {FEWEST} of each at least, a hundred are better",
        )


def _check_documents(folder: Path, searched: Sequence[SearchedQuery]) -> None:
    """Some document that is judged must have been found, or the ids are others."""
    found = {name for one in searched[:1] for name in one.owners.values()}
    if not any(name in found for one in searched for name in one.query.grades):
        raise UsageError(
            f"no document that {folder} judges was found in the store",
            hint="index its corpus.jsonl first: document ids must agree",
        )


def _warnings(queries: Sequence[JudgedQuery]) -> list[str]:
    unnamed = sum(not one.domain for one in queries)
    if not unnamed:
        return []
    return [f"{unnamed} of {len(queries)} queries name no domain of the store and are searched as routed"]


class _Work:
    """The store as it is, and what is chosen for it: each part is tried on top of those that were kept."""

    def __init__(
        self,
        retriever: Retriever,
        snapshot: Snapshot,
        *,
        mass: float | None,
        seed: int,
        progress: Callable[[int], None],
    ) -> None:
        self.retriever, self.snapshot, self.mass, self.seed = retriever, snapshot, mass, seed
        self.told = progress
        self.tuning, self.live = snapshot.tuning, dict(snapshot.calibration)
        self._routed: list[SearchedQuery] = []

    def searched(self, queries: Sequence[JudgedQuery], *, routed: bool = False) -> list[SearchedQuery]:
        return search(
            self.retriever,
            queries,
            snapshot=self.snapshot,
            routed=routed,
            mass=self.mass,
            progress=self.told,
        )

    def weights(
        self, known: Sequence[SearchedQuery], held: Sequence[SearchedQuery], *, source: str
    ) -> tuple[Tuning, Trial]:
        """How a hybrid score is made, chosen on `known` and tried on `held`."""
        tuning = chosen_tuning(known, source=source, seed=self.seed)
        test = self._test(self._ndcg(held, tuning), self._ndcg(held, self.tuning))
        tuning = replace(tuning, gain=(test.difference, test.low, test.high))
        trial = _trial(Part.WEIGHTS, self._ndcg(held, self.tuning), test, kept=test.difference > 0)
        if trial.kept:
            self.tuning = tuning
        return tuning, trial

    def router(
        self, known: Sequence[JudgedQuery], held: Sequence[JudgedQuery]
    ) -> tuple[Router | None, Trial]:
        """The router taught with the queries that name a domain.

        Kept where answers get better, or where they are no worse by more than a hundredth (lower bound) and
        fewer domains are searched.
        """
        named = [one for one in known if one.domain]
        snapshot = self.snapshot
        if snapshot.router is None or len(snapshot.domains) < 2 or not named:
            return None, Trial(Part.ROUTER, reason="there is nothing to route, or no query names a domain")
        texts, domains = [one.text for one in named], [one.domain for one in named]
        taught = taught_router(
            self.retriever.store, snapshot.generation, snapshot.encoder, texts=texts, domains=domains
        )
        before = self._routed = self.searched(held, routed=True)
        self.snapshot = copy(snapshot)  # tables and indexes stay those that are open
        self.snapshot.router = taught
        after = self.searched(held, routed=True)
        test = self._test(self._ndcg(after, self.tuning), self._ndcg(before, self.tuning))
        searched = (_fan_out(before), _fan_out(after))
        kept = test.difference > 0 or (test.low > -MARGIN and searched[1] < searched[0])
        if kept:
            self._routed = after
        else:
            self.snapshot = snapshot
        trial = _trial(Part.ROUTER, self._ndcg(before, self.tuning), test, kept=kept)
        return taught, replace(trial, searched=searched)

    def calibration(
        self, known: Sequence[SearchedQuery], held: Sequence[JudgedQuery]
    ) -> tuple[dict[str, DomainCalibration], Trial]:
        """What cosines are worth in each domain, tried on routed searches."""
        if len({self.snapshot.space(name) for name in self.snapshot.domains}) < 2:
            return {}, Trial(Part.CALIBRATION, reason="all domains are on one expert: their cosines compare")
        fitted = fit_calibrations(known, space=self.snapshot.space)
        if not fitted:
            return {}, Trial(
                Part.CALIBRATION, reason=f"no domain has {RELEVANT} relevant chunks among its candidates"
            )
        routed = self._routed or self.searched(held, routed=True)
        before, tried = self._ndcg(routed, self.tuning), self._with(fitted)
        after = [one.ndcg(tuning=self.tuning, calibration=tried) for one in routed]
        test = self._test(after, before)
        return fitted, _trial(Part.CALIBRATION, before, test, kept=test.difference > 0)

    def _with(self, fitted: Mapping[str, DomainCalibration]) -> dict[str, DomainCalibration]:
        """What queries would go by, were these published: also for the other domains of a space."""
        live = self.snapshot.generation
        return in_use(replace(live, calibration=as_written(calibration_of(live) | dict(fitted))))

    def _ndcg(self, searched: Sequence[SearchedQuery], tuning: Tuning) -> list[float]:
        return [one.ndcg(tuning=tuning, calibration=self.live) for one in searched]

    def _test(self, after: Sequence[float], before: Sequence[float]) -> PairedTest:
        return paired_bootstrap(after, before, seed=self.seed)


def _fan_out(searched: Sequence[SearchedQuery]) -> float:
    return float(np.mean([len(one.lists) for one in searched]))


def _trial(part: Part, before: Sequence[float], test: PairedTest, *, kept: bool) -> Trial:
    mean = float(np.mean(before))
    return Trial(part, mean, mean + test.difference, test, kept=kept)
