"""Tuning a real store: what gains is saved as one generation, what does not is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moe_retrieval import Encoder, Retriever, Store
from moe_retrieval.calibration import Tuning
from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.rankings import per_query
from moe_retrieval.tuning.fitting import fit_calibrations
from moe_retrieval.tuning.queries import read_queries
from moe_retrieval.tuning.report import Part
from moe_retrieval.tuning.run import tune
from moe_retrieval.tuning.searches import search
from moe_retrieval.types import Fusing
from tests.unit.tuning.conftest import write_folder


def test_what_gains_is_saved_as_one_generation_and_answers_by_it(
    retriever: Retriever, store: Store, folder: Path
) -> None:
    before = store.catalog.latest()
    report = tune(retriever, folder)
    weights = report.trials[0]
    assert weights.part is Part.WEIGHTS
    assert weights.kept
    assert weights.test is not None
    assert weights.test.low > 0
    assert weights.after is not None
    assert weights.after > 0.9
    assert report.tuning.gain is not None
    live = store.catalog.latest()
    assert before is not None
    assert live is not None
    assert (report.generation, live.number) == (before.number + 1, before.number + 1)
    assert (live.domains, live.router) == (before.domains, before.router)
    assert Tuning.from_dict(live.tuning) == report.tuning
    assert retriever.query("trial of zq4x in patient pain", domains=["cvd"]).hits[0].doc_id == "d4"


def test_what_was_tuned_does_not_gain_again_and_is_left_alone(
    retriever: Retriever, store: Store, folder: Path
) -> None:
    first = tune(retriever, folder)
    again = tune(retriever, folder)
    assert not again.gains
    assert again.generation == 0
    live = store.catalog.latest()
    assert live is not None
    assert live.number == first.generation


def test_a_dry_run_says_the_same_and_saves_nothing(retriever: Retriever, store: Store, folder: Path) -> None:
    before = store.catalog.latest()
    dry = tune(retriever, folder, dry_run=True)
    assert store.catalog.latest() == before
    assert dry.gains
    assert dry.trials == tune(retriever, folder).trials


def test_nothing_is_chosen_by_held_out_queries(retriever: Retriever, folder: Path, code: list[str]) -> None:
    """With other texts in the held-out half, the choice is the same."""
    first = tune(retriever, folder, dry_run=True).tuning
    held = {one.id for one in read_queries(folder, known=("cvd", "skin")) if one.held}
    texts = [
        "pain" if f"q{at}" in held else f"trial of {name} in patient pain" for at, name in enumerate(code)
    ]
    write_folder(folder, texts)
    other = tune(retriever, folder, dry_run=True).tuning
    assert (other.weight, other.weights, other.within) == (first.weight, first.weights, first.within)


def test_queries_without_domains_are_searched_as_routed(
    retriever: Retriever, folder: Path, code: list[str]
) -> None:
    write_folder(folder, [f"trial of {name} in patient pain" for name in code], domains=False)
    report = tune(retriever, folder, dry_run=True)
    assert report.warnings == ("80 of 80 queries name no domain of the store and are searched as routed",)
    assert not report.tuning.weights


def test_too_few_queries_and_foreign_documents_get_a_sentence(retriever: Retriever, folder: Path) -> None:
    judged = folder / "qrels.tsv"
    judged.write_text(judged.read_text().replace("\td", "\tother"))
    with pytest.raises(UsageError, match="no document that"):
        tune(retriever, folder)
    write_folder(folder, ["heart", "skin", "sun"])
    with pytest.raises(UsageError, match="too few"):
        tune(retriever, folder)


def test_one_expert_needs_no_calibration(retriever: Retriever, folder: Path) -> None:
    report = tune(retriever, folder, dry_run=True)
    assert not report.calibration
    assert "one expert" in report.trials[2].reason


def test_offline_figures_are_those_of_trec_eval_on_real_answers(retriever: Retriever, folder: Path) -> None:
    queries = read_queries(folder, known=("cvd", "skin"))[:30]
    found = search(retriever, queries, snapshot=retriever.snapshot())
    for weight in (0.0, 0.4, 1.0):
        fusing = Fusing(weight=weight)
        run = {}
        for one in queries:
            answer = retriever.query(one.text, k=60, domains=[one.domain], fusing=fusing)
            names = dict.fromkeys(hit.doc_id for hit in answer.hits)
            run[one.id] = {name: -float(rank) for rank, name in enumerate(names)}
        expected = per_query(run, {one.id: dict(one.grades) for one in queries})["ndcg_10"]
        ours = [one.ndcg(fusing=fusing) for one in found]
        np.testing.assert_allclose(ours, [expected[one.id] for one in queries], atol=1e-9)


def test_calibrations_are_fitted_where_judged_chunks_are_enough(
    retriever: Retriever, folder: Path, encoder: Encoder
) -> None:
    queries = read_queries(folder, known=("cvd", "skin"))
    found = search(retriever, queries, snapshot=retriever.snapshot())
    fitted = fit_calibrations(found, space=retriever.snapshot().space)
    for domain, one in fitted.items():
        assert one.fingerprint == encoder.fingerprint(domain)
        assert (np.diff(one.probability(np.linspace(-1, 1, 9))) > 0).all()
    assert not fit_calibrations(found[:8], space=retriever.snapshot().space)


def test_a_router_that_learns_from_queries_is_kept_only_if_answers_do_not_suffer(
    retriever: Retriever, store: Store, folder: Path
) -> None:
    before = store.catalog.latest()
    report = tune(retriever, folder)
    routing = report.trials[1]
    assert routing.part is Part.ROUTER
    assert routing.test is not None
    assert routing.searched is not None
    worse = routing.test.difference <= 0
    if worse and (routing.test.low <= -0.01 or routing.searched[1] >= routing.searched[0]):
        assert not routing.kept
    live = store.catalog.latest()
    assert before is not None
    assert live is not None
    assert (live.router != before.router) == routing.kept


def test_queries_that_say_where_they_belong_teach_the_router(
    retriever: Retriever, store: Store, folder: Path, code: list[str]
) -> None:
    """Questions in words that no document has, one kind for each domain."""
    kinds = ("sun sun light", "cough cough joint")
    texts = [f"{kinds[at % 2]} {name}" for at, name in enumerate(code)]
    write_folder(folder, texts)
    report = tune(retriever, folder)
    routing = report.trials[1]
    assert routing.searched is not None
    assert routing.searched[1] <= routing.searched[0]
