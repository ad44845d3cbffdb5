"""Judging the answers of a real store."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_retrieval import Retriever
from moe_retrieval.tuning.judging import judge_retrieval
from tests.unit.tuning.conftest import write_folder


def test_ways_stand_side_by_side_against_the_oracle_with_what_they_cost(
    retriever: Retriever, folder: Path
) -> None:
    told: list[tuple[int, int]] = []
    report = judge_retrieval(retriever, folder, samples=50, progress=lambda *now: told.append(now))
    assert report.figures.models == ("oracle", "routed", "all")
    assert {one.against for one in report.figures.differences} == {"oracle"}
    costs = {one.way: one for one in report.costs}
    assert (costs["oracle"].searched, costs["oracle"].right) == (1.0, 1.0)
    assert (costs["all"].searched, costs["all"].right) == (2.0, 1.0)
    assert costs["routed"].right is not None
    assert all(0 < one.median <= one.slow for one in report.costs)
    assert {"route", "vector", "text", "fuse", "fetch"} <= set(costs["routed"].stages)
    assert told[-1] == (240, 2)
    assert any("one expert" in said for said in report.figures.warnings)


def test_figures_are_those_of_the_answers(retriever: Retriever, folder: Path) -> None:
    report = judge_retrieval(retriever, folder, samples=20)
    oracle = report.figures.rankings[0]
    answer = retriever.query("trial of zq8x in patient pain", domains=["cvd"], k=100)
    names = list(dict.fromkeys(hit.doc_id for hit in answer.hits))
    rank = names.index("d8") + 1
    assert oracle.per_query["mrr_10"]["q8"] == pytest.approx(1 / rank if rank <= 10 else 0)
    assert list(oracle.run["q8"]) == names


def test_queries_without_domains_have_no_oracle(retriever: Retriever, folder: Path, code: list[str]) -> None:
    write_folder(folder, [f"trial of {name}" for name in code], domains=False)
    report = judge_retrieval(retriever, folder, samples=20)
    assert report.figures.models == ("routed", "all")
    assert all(one.right is None for one in report.costs)
    assert any("no oracle" in said for said in report.figures.warnings)
