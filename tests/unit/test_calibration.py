"""Calibration: a cosine becomes a probability, monotone, whatever the scale it was measured on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from moe_retrieval.calibration import Basis, DomainCalibration, Tuning
from moe_retrieval.errors import UsageError
from moe_retrieval.types import Within


def drawn(*, slope: float, intercept: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and which of them are relevant under a known curve."""
    chance = np.random.default_rng(0)
    scores = chance.uniform(-0.2, 1.0, n)
    return scores, chance.random(n) < 1 / (1 + np.exp(-(slope * scores + intercept)))


def test_a_fit_finds_the_curve_that_made_the_judgements() -> None:
    scores, relevant = drawn(slope=12.0, intercept=-8.0)
    fitted = DomainCalibration.fit(scores, relevant)
    assert fitted.slope == pytest.approx(12, rel=0.05)
    assert fitted.intercept == pytest.approx(-8, rel=0.05)


def test_probabilities_mean_what_they_say() -> None:
    scores, relevant = drawn(slope=12.0, intercept=-8.0)
    said = DomainCalibration.fit(scores, relevant).probability(scores)
    bins = [(said >= low) & (said < low + 0.2) for low in (0.0, 0.2, 0.4, 0.6, 0.8)]
    assert max(abs(said[one].mean() - relevant[one].mean()) for one in bins) < 0.03


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 0.4), (0.02, -3.0), (50.0, 7.0)])
def test_scores_on_another_scale_get_the_same_probabilities(scale: float, shift: float) -> None:
    scores, relevant = drawn(slope=12.0, intercept=-8.0, n=2_000)
    plain, moved = (DomainCalibration.fit(part, relevant) for part in (scores, scale * scores + shift))
    np.testing.assert_allclose(
        moved.probability(scale * scores + shift), plain.probability(scores), atol=1e-6
    )


def test_classes_that_a_cosine_parts_wholly_still_have_a_curve() -> None:
    scores = np.linspace(0, 1, 200)
    fitted = DomainCalibration.fit(scores, scores > 0.5)
    assert np.isfinite([fitted.slope, fitted.intercept]).all()
    assert fitted.probability(np.array([0.1]))[0] < 0.05 < 0.95 < fitted.probability(np.array([0.9]))[0]


@pytest.mark.parametrize("relevant", [np.zeros(5, bool), np.ones(5, bool), np.ones(4, bool)])
def test_judgements_of_one_kind_only_are_refused(relevant: np.ndarray) -> None:
    with pytest.raises(UsageError, match="relevant ones among"):
        DomainCalibration.fit(np.linspace(0, 1, 5), relevant)


def test_relevant_chunks_with_lower_cosines_are_refused() -> None:
    scores, relevant = drawn(slope=12.0, intercept=-8.0, n=500)
    with pytest.raises(UsageError, match="do not have higher cosines"):
        DomainCalibration.fit(-scores, relevant)


def test_equal_scores_are_refused() -> None:
    with pytest.raises(UsageError, match="do not have higher cosines"):
        DomainCalibration.fit(np.full(6, 0.5), np.array([1, 0, 1, 0, 1, 0], bool))


# --- without judgements ---


def cosines() -> np.ndarray:
    found = np.random.default_rng(1).normal(0.2, 0.1, (30, 200))
    found[:, 0] = np.nan
    found[:, 1] = 0.8
    return found


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 0.4), (1.3, -0.3)])
def test_a_planted_scale_is_taken_out_without_any_judgement(scale: float, shift: float) -> None:
    plain, moved = (
        DomainCalibration.from_statistics(part) for part in (cosines(), scale * cosines() + shift)
    )
    asked = np.linspace(-0.2, 1, 13)
    np.testing.assert_allclose(moved.log_odds(scale * asked + shift), plain.log_odds(asked), atol=1e-9)


def test_a_nearest_neighbour_is_likelier_relevant_than_an_unrelated_text() -> None:
    unrelated, nearest = DomainCalibration.from_statistics(cosines()).probability(np.array([0.2, 0.8]))
    assert unrelated < 0.02
    assert nearest == pytest.approx(0.5, abs=0.1)


def test_a_calibration_by_texts_says_that_it_is_one() -> None:
    one = DomainCalibration.from_statistics(cosines(), fingerprint="f", digest="d")
    assert (one.basis, one.fingerprint, one.digest, one.samples) == (Basis.STATISTICS, "f", "d", 30 * 199)


@pytest.mark.parametrize(
    "found", [np.zeros((0, 5)), np.full((3, 5), np.nan), np.full((3, 5), 0.4)], ids=["none", "own", "alike"]
)
def test_texts_that_say_nothing_are_refused(found: np.ndarray) -> None:
    with pytest.raises(UsageError, match="to say what a cosine is worth"):
        DomainCalibration.from_statistics(found)


# --- what a generation holds of it ---


@pytest.mark.parametrize("basis", Basis)
def test_a_calibration_comes_back_from_json(basis: Basis) -> None:
    one = DomainCalibration(3.5, -2.25, "f", basis, 7, "d")
    assert DomainCalibration.from_dict(json.loads(json.dumps(one.to_dict())) | {"later": 1}) == one


def test_a_tuning_comes_back_from_json() -> None:
    one = Tuning(0.6, {"cvd": 0.4}, Within.RRF, "folder", 12, "2026-11-26", (0.02, 0.01, 0.03))
    assert Tuning.from_dict(json.loads(json.dumps(one.to_dict())) | {"later": 1}) == one


def test_of_nothing_nothing_is_tuned() -> None:
    assert Tuning.from_dict({}) == Tuning()
