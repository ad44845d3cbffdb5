"""Pair metrics against small cases by hand, and against published figures where their scores are at hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.metrics import pair_metrics

PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "published_predictions"
# F1max and ROC-AUC of the joint MoE and the joint dense model (arXiv 2401.15713), as given there
FIGURES = {
    "moe": {"COPD": (0.7861, 0.855), "CVD": (0.9060, 0.967), "CANCER": (0.7687, 0.823),
            "PARASITIC": (0.9004, 0.963), "AUTOIMMUNE": (0.8908, 0.955)},
    "se_all": {"COPD": (0.7661, 0.829), "CVD": (0.8995, 0.964), "CANCER": (0.7301, 0.772),
               "PARASITIC": (0.8905, 0.957), "AUTOIMMUNE": (0.8845, 0.947)},
}  # fmt: skip


def test_a_case_by_hand() -> None:
    found = pair_metrics([0.9, 0.8, 0.3, 0.2], [1, 0, 1, 0])
    assert found.f1_max == pytest.approx(0.8)  # from 0.3 on: precision 2/3, recall 1
    assert (found.threshold, found.recall) == (0.3, 1.0)
    assert found.precision == pytest.approx(2 / 3)
    assert found.roc_auc == pytest.approx(0.75)
    assert found.ratio == pytest.approx(0.6 / 0.5)
    assert found.floor == pytest.approx(2 / 3)


@given(
    st.lists(st.tuples(st.floats(-1, 1, allow_nan=False), st.integers(0, 1)), min_size=2, max_size=40).filter(
        lambda pairs: len({label for _, label in pairs}) == 2
    )
)
def test_f1_max_is_that_of_the_plain_loop_over_thresholds(pairs: list[tuple[float, int]]) -> None:
    scores, labels = np.array([score for score, _ in pairs]), np.array([label for _, label in pairs])
    best = 0.0
    for threshold in scores:
        called = scores >= threshold
        hits = int((called & (labels == 1)).sum())
        best = max(best, 2 * hits / (called.sum() + labels.sum()))
    found = pair_metrics(scores, labels)
    assert found.f1_max == pytest.approx(best)
    assert found.f1_max >= found.floor - 1e-12


def test_scores_beyond_a_cosine_are_cut() -> None:
    assert pair_metrics([1.2, 0.1], [1, 0]).threshold == 1.0


@pytest.mark.parametrize(
    ("scores", "labels", "said"),
    [
        ([0.1], [1, 0], "do not fit"),
        ([], [], "do not fit"),
        ([0.1, float("nan")], [1, 0], "score 1 is not finite"),
        ([0.1, 0.2], [1, 1], "both must occur"),
        ([0.1, 0.2], [1, 2], "must be 0 and 1"),
    ],
)
def test_what_cannot_be_measured_is_said(scores: list[float], labels: list[int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        pair_metrics(scores, labels)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published predictions are not beside this project")
@pytest.mark.parametrize("domain", ["COPD", "CVD", "CANCER", "PARASITIC", "AUTOIMMUNE"])
@pytest.mark.parametrize("model", ["moe", "se_all"])
def test_published_figures_come_from_published_predictions(model: str, domain: str) -> None:
    with (PUBLISHED / f"{model}_{domain}.csv").open(encoding="utf8") as stream:
        rows = list(csv.DictReader(stream))
    scores = [float(row["prediction"]) for row in rows]
    found = pair_metrics(scores, [int(float(row["label"])) for row in rows])
    f1, auc = FIGURES[model][domain]
    assert found.f1_max == pytest.approx(f1, abs=5e-5)
    assert found.roc_auc == pytest.approx(auc, abs=5e-4)
