"""TREC runs are read, written and judged as trec_eval does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moe_retrieval.corpus.collection import read_qrels
from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.judging import judge_run
from moe_retrieval.evaluation.rankings import per_query
from moe_retrieval.evaluation.trec import read_run, write_run

if TYPE_CHECKING:
    from pathlib import Path

# ranks and the order of lines say nothing: scores decide
RUN = """\
q1 Q0 d3 1 0.2 system
q1 Q0 d1 2 0.9 system
q1\tQ0\td2\t3\t0.5\tsystem

q2 Q0 d9 1 12.5 system
q3 Q0 d1 1 1e-3 system
"""
QRELS = """\
q1 0 d1 1
q1 0 d2 0
q1 0 d3 3
q1 0 d4 2
q2 0 d8 1
q2 0 d9 1
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "a.run").write_text(RUN)
    (tmp_path / "qrels.txt").write_text(QRELS)
    return tmp_path / "a.run", tmp_path / "qrels.txt"


def test_graded_ndcg_of_files_is_that_by_hand(files: tuple[Path, Path]) -> None:
    found = per_query(read_run(files[0]), read_qrels(files[1]))
    ideal = 3 + 2 / math.log2(3) + 1 / math.log2(4)
    assert found["ndcg_10"]["q1"] == pytest.approx((1 + 3 / math.log2(4)) / ideal)
    assert found["ndcg_10"]["q2"] == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert found["map_100"]["q1"] == pytest.approx((1 + 2 / 3) / 3)


def test_all_measures_of_files_are_those_of_trec_eval(files: tuple[Path, Path]) -> None:
    import pytrec_eval

    run, qrels = read_run(files[0]), read_qrels(files[1])
    names = {"ndcg_cut_10": "ndcg_10", "recall_10": "recall_10", "map_cut_100": "map_100"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, set(names)).evaluate(run)
    ours = per_query(run, qrels)
    for query, values in theirs.items():
        for name, own in names.items():
            assert ours[own][query] == pytest.approx(values[name], abs=1e-12)


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    run = {
        f"q{query}": {
            f"d{place}": float(np.float32(score)) for place, score in enumerate(generator.random(40))
        }
        for query in range(5)
    }
    write_run(tmp_path / "deep" / "run.trec", run, tag="ours")
    assert read_run(tmp_path / "deep" / "run.trec") == run
    first = (tmp_path / "deep" / "run.trec").read_text().splitlines()[0].split()
    assert first[:2] == ["q0", "Q0"]
    assert first[2] == max(run["q0"], key=run["q0"].__getitem__)
    assert (first[3], first[5]) == ("1", "ours")


def test_ties_are_written_in_trec_evals_order(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"q": {"a": 1.0, "c": 1.0, "b": 2.0}}, tag="t")
    assert [line.split()[2] for line in (tmp_path / "run").read_text().splitlines()] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no ranking"),
        ("\n \n", "holds no ranking"),
        ("q1 Q0 d1 1 0.5\n", "line 1 has 5 fields, not 6"),
        ("q1 Q0 d1 1 0.5 t\nq1 Q0 d2 2 high t\n", "line 2: the score 'high' is no number"),
        ("q1 Q0 d1 1 nan t\n", "line 1: the score 'nan' is not finite"),
        ("q1 Q0 d1 1 2 t\nq1 Q0 d1 2 1 t\n", "line 2: d1 stands twice for query q1"),
    ],
)
def test_a_damaged_run_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.run").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_run(tmp_path / "bad.run")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.run cannot be read"):
        read_run(tmp_path / "none.run")
    (tmp_path / "bytes.run").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UsageError, match=r"bytes\.run cannot be read"):
        read_run(tmp_path / "bytes.run")


@pytest.mark.parametrize("run", [{"a b": {"d": 1.0}}, {"q": {"d\t1": 1.0}}, {"": {"d": 1.0}}])
def test_ids_that_the_format_cannot_say_are_refused(tmp_path: Path, run: dict[str, dict[str, float]]) -> None:
    with pytest.raises(UsageError, match="cannot stand in a run"):
        write_run(tmp_path / "run", run, tag="t")
    assert not (tmp_path / "run").exists()


def test_ids_that_do_not_meet_are_told(files: tuple[Path, Path]) -> None:
    found = judge_run(read_run(files[0]), {**read_qrels(files[1]), "q7": {"d1": 1}}, model="a", data="qrels")
    assert found.pooled.count == 3
    assert found.warnings == (
        "a: 1 of 3 queries are not judged and do not count",
        "a: 1 of 3 judged queries have no answer and count 0",
    )
    foreign = judge_run({"q1": {"x": 1.0}}, {"q1": {"d": 1}}, model="a", data="qrels")
    assert foreign.warnings == ("a: no document it ranks is judged; do the document ids agree?",)


def test_a_run_of_other_queries_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="a answers no query that qrels judges"):
        judge_run(read_run(files[0]), {"other": {"d1": 1}}, model="a", data="qrels")
