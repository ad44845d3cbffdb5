"""Pictures of a report are written as files, without touching what the caller draws."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moe_retrieval.corpus.pairs import Pair
from moe_retrieval.errors import MissingExtraError, UsageError
from moe_retrieval.evaluation.intervals import Interval
from moe_retrieval.evaluation.judging import judge_run
from moe_retrieval.evaluation.matrix import Matrix
from moe_retrieval.evaluation.pairs import judge_scores
from moe_retrieval.evaluation.plots import draw
from moe_retrieval.evaluation.report import EvaluationReport

if TYPE_CHECKING:
    from pathlib import Path


def report() -> EvaluationReport:
    generator = np.random.default_rng(0)
    pairs = [Pair("a", "b", ("cvd", "skin")[place % 2], int(place % 4 < 2)) for place in range(40)]
    judged = [
        judge_scores(generator.uniform(-0.2, 1, size=40), pairs, model=model, data="Ours / set", samples=20)
        for model in ("base", "experts")
    ]
    run = {"q1": {"d": 1.0}, "q2": {"e": 1.0}}
    ranking = judge_run(run, {"q1": {"d": 1}, "q2": {"d": 1}}, model="base", data="qrels",
                        domains={"q1": "cvd", "q2": "skin"}, samples=20)  # fmt: skip
    cells = tuple(tuple(Interval(value, value, value) for value in row) for row in ((0.1, 0.9), (0.4, 0.2)))
    matrix = Matrix("experts", "Ours / set", "roc_auc", ("cvd", "skin"), ("general", "cvd"), cells)
    return EvaluationReport(("base", "experts"), tuple(judged), (ranking,), (matrix,), (), (), 0, 20)


@pytest.mark.parametrize(("form", "head"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_every_part_of_a_report_has_its_picture(tmp_path: Path, form: str, head: bytes) -> None:
    files = draw(report(), tmp_path / "new" / "folder", form=form)
    assert [file.name for file in files] == [
        f"{name}.{form}"
        for name in (
            "pairs-ours-set-f1-max",
            "pairs-ours-set-roc-auc",
            "pairs-ours-set-precision-recall",
            "pairs-ours-set-scores",
            "ranking-qrels-ndcg-10",
            "matrix-1-ours-set-experts",
        )
    ]
    assert all(file.read_bytes().startswith(head) and file.stat().st_size > 2000 for file in files)


def test_pictures_name_models_domains_and_figures(tmp_path: Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):  # letters as text
        files = {file.stem: file.read_text() for file in draw(report(), tmp_path, form="svg")}
    bars, heat = files["pairs-ours-set-f1-max"], files["matrix-1-ours-set-experts"]
    assert [
        word for word in ("base", "experts", "cvd", "skin", "macro", "pooled", "F1max") if word not in bars
    ] == []
    assert [word for word in ("0.900", "0.400", "general", "ROC-AUC") if word not in heat] == []


def test_drawing_leaves_the_callers_figures_and_backend_alone(tmp_path: Path) -> None:
    import matplotlib

    before = matplotlib.get_backend(auto_select=False), "matplotlib.pyplot" in sys.modules
    draw(report(), tmp_path)
    assert (matplotlib.get_backend(auto_select=False), "matplotlib.pyplot" in sys.modules) == before


def test_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written as 'gif'; one of png, svg"):
        draw(report(), tmp_path, form="gif")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"moeret\[plot\]"):
        draw(report(), tmp_path)
