"""Pairs through an encoder: per domain, macro, weighted and pooled, each with its interval."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moe_retrieval.corpus.pairs import Pair, Split, write_pairs
from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.inputs import read_pair_set
from moe_retrieval.evaluation.intervals import bootstrap_statistic
from moe_retrieval.evaluation.metrics import pair_metrics
from moe_retrieval.evaluation.pair_bootstrap import PAIR_MEASURES, pair_figures, resampled_measures
from moe_retrieval.evaluation.pairs import evaluate_pairs, judge_scores, score_pairs
from tests.tiny_model import WORDS

if TYPE_CHECKING:
    from moe_retrieval import Encoder

PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "published_predictions"


def made(count: int, *, domain: str, seed: int = 0, skill: float = 1.0) -> tuple[list[Pair], np.ndarray]:
    """Pairs with scores that tell them apart as well as `skill` says; every third is positive."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3 == 0
    scores = np.tanh(0.4 * generator.normal(size=count) + 0.3 * skill * labels)
    pairs = [Pair(f"a{place}", f"b{place}", domain, int(label)) for place, label in enumerate(labels)]
    return pairs, scores


def test_resampled_measures_are_those_of_the_plain_function() -> None:
    pairs, scores = made(60, domain="cvd")
    scores = np.round(0.4 + scores / 2, 1)  # many equal scores
    labels = np.array([pair.label for pair in pairs])
    drawn = resampled_measures(scores, labels, samples=40, seed=3)
    rows = np.random.default_rng(3).integers(0, 60, size=(40, 60))
    for own, found in zip(rows, drawn, strict=True):
        wanted = pair_metrics(scores[own], labels[own]).to_dict()
        np.testing.assert_allclose(found, [wanted[name] for name in PAIR_MEASURES], atol=1e-12)


@pytest.mark.parametrize("negative", [0.0, 1e-311])
def test_a_ratio_beyond_all_numbers_is_infinite_and_null_in_json(negative: float) -> None:
    scores, labels = np.array([0.9, 0.8, negative, negative]), np.array([1, 1, 0, 0])
    assert pair_metrics(scores, labels).ratio == float("inf")
    found = pair_figures(scores, labels, samples=20, seed=0)
    assert found["ratio"].to_dict() == {"mean": None, "low": None, "high": None}
    assert found["f1_max"].to_dict() == {"mean": 1, "low": 1, "high": 1}


def test_a_resample_of_one_label_has_no_measures() -> None:
    drawn = resampled_measures(np.array([0.9, 0.1, 0.2]), np.array([1, 0, 0]), samples=200, seed=0)
    rows = np.random.default_rng(0).integers(0, 3, size=(200, 3))
    lonely = (rows == 0).sum(axis=1) % 3 == 0
    assert lonely.any()
    np.testing.assert_array_equal(np.isnan(drawn).all(axis=1), lonely)
    np.testing.assert_array_equal(np.isnan(drawn).any(axis=1), lonely)


def test_intervals_are_those_of_any_statistic() -> None:
    pairs, scores = made(90, domain="cvd", seed=1)
    labels = np.array([pair.label for pair in pairs])
    found = pair_figures(scores, labels, samples=500, seed=0)
    for name in ("f1_max", "roc_auc"):
        wanted = bootstrap_statistic(
            lambda score, label, name=name: getattr(pair_metrics(score, label), name),
            scores, labels, samples=500, seed=0,
        )  # fmt: skip
        assert found[name].to_dict() == pytest.approx(wanted.to_dict())
    assert found["roc_auc"].low < found["roc_auc"].mean < found["roc_auc"].high


def test_macro_weighted_and_pooled_are_their_definitions() -> None:
    small, small_scores = made(30, domain="skin", seed=1)
    large, large_scores = made(120, domain="cvd", seed=2, skill=3)
    pairs, scores = [*small, *large], np.concatenate([small_scores, large_scores])
    found = judge_scores(scores, pairs, model="m", samples=200)
    labels = np.array([pair.label for pair in pairs])
    of_skin, of_cvd = pair_metrics(small_scores, labels[:30]), pair_metrics(large_scores, labels[30:])
    assert list(found.domains) == ["cvd", "skin"]
    for name in PAIR_MEASURES:
        one, other = getattr(of_skin, name), getattr(of_cvd, name)
        assert found.domains["skin"][name].mean == pytest.approx(one)
        assert found.macro[name].mean == pytest.approx((one + other) / 2)
        assert found.weighted[name].mean == pytest.approx((30 * one + 120 * other) / 150)
        assert found.pooled[name].mean == pytest.approx(getattr(pair_metrics(scores, labels), name))
    assert (found.macro.count, found.domains["skin"].count) == (150, 30)
    macro, skin = found.macro["roc_auc"], found.domains["skin"]["roc_auc"]
    assert macro.high - macro.low < skin.high - skin.low


def test_each_domains_texts_go_through_its_own_expert(encoder: Encoder) -> None:
    pairs = [
        Pair("aspirin and stroke", "heart attack trial", "cvd", 1),
        Pair("aspirin and stroke", "heart attack trial", "skin", 0),
        Pair("aspirin and stroke", "heart attack trial", "", 1),
    ]
    found = score_pairs(encoder, pairs)
    for place, domain in enumerate(["cvd", "skin", "general"]):
        one, other = encoder.encode_document([pairs[0].a, pairs[0].b], domain=domain)
        assert found[place] == pytest.approx(float(one @ other), abs=1e-5)
    assert len(set(np.round(found, 3))) == 3
    through_skin = score_pairs(encoder, pairs, domain="skin")
    assert through_skin == pytest.approx([found[1]] * 3, abs=1e-6)


def test_a_text_is_encoded_once_per_expert(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    real = encoder.encode_document

    def counted(texts: list[str], *, domain: str, progress: Any = None) -> Any:
        seen.extend((domain, text) for text in texts)
        return real(texts, domain=domain, progress=progress)

    monkeypatch.setattr(encoder, "encode_document", counted)
    pairs = [
        Pair("heart", other, domain)
        for domain in ("cvd", "lung", "eye")
        for other in ("skin", "sun", "heart")
    ]
    score_pairs(encoder, pairs)
    experts = [(encoder.expert_of(domain), text) for domain, text in seen]
    assert sorted(experts) == sorted({*experts})
    assert len(seen) == 6  # three texts by the expert of cvd, three by general for lung and eye


def test_a_long_text_is_encoded_in_windows(encoder: Encoder) -> None:
    long = " ".join(["heart"] * 40 + ["skin"] * 40)
    (score,) = score_pairs(encoder, [Pair(long, "skin", "cvd")])
    cut = " ".join(["heart"] * 30)
    (other,) = score_pairs(encoder, [Pair(cut, "skin", "cvd")])
    assert abs(score - other) > 0.01


def test_the_report_says_the_experts_and_is_the_same_again(encoder: Encoder) -> None:
    words = WORDS[5:17] * 2
    pairs = [
        Pair(one, other, ("cvd", "eye")[place % 2], int(place % 3 == 0))
        for place, (one, other) in enumerate(pairwise(words))
    ]
    found = evaluate_pairs(encoder, pairs, model="m", data="d", samples=50, seed=4)
    assert (
        found.to_dict() == evaluate_pairs(encoder, pairs, model="m", data="d", samples=50, seed=4).to_dict()
    )
    assert found.experts == {"cvd": encoder.expert_of("cvd"), "eye": "general"}
    said = found.to_dict()
    assert list(said) == ["model", "data", "domains", "macro", "weighted", "pooled", "left_out", "experts"]
    assert list(said["macro"]) == ["count", *PAIR_MEASURES]
    assert list(said["macro"]["f1_max"]) == ["mean", "low", "high"]


def test_a_domain_of_one_label_is_named_and_left_out_of_macro() -> None:
    good, scores = made(30, domain="cvd")
    lonely = [Pair("x", "y", "skin", 1), Pair("x", "z", "skin", 1)]
    found = judge_scores(np.append(scores, [0.9, 0.8]), [*good, *lonely], model="m", data="set", samples=50)
    assert found.left_out == ("skin",)
    assert list(found.domains) == ["cvd"]
    assert found.macro["f1_max"].mean == found.domains["cvd"]["f1_max"].mean
    assert found.pooled.count == 32
    assert found.warnings == ("set: domain 'skin' has pairs of one label only; it counts in pooled alone",)


def test_labels_of_one_kind_in_every_domain_are_refused() -> None:
    pairs = [Pair("x", "y", "skin", 1), Pair("x", "z", "cvd", 0)]
    with pytest.raises(UsageError, match=r"no domain has pairs of both labels \(cvd, skin\)"):
        judge_scores(np.array([0.1, 0.2]), pairs, model="m")
    with pytest.raises(UsageError, match="set holds no pairs to evaluate"):
        judge_scores(np.array([]), [], model="m", data="set")


# --- files and folders --------------------------------------------------------------------------------------


def of(split: Split | None, count: int) -> list[Pair]:
    return [Pair(f"a{split}{place}", "b", label=place % 2, split=split) for place in range(count)]


def test_a_folder_gives_its_test_split_and_says_so(tmp_path: Path) -> None:
    for number, split in enumerate(Split, start=1):
        write_pairs(tmp_path / "built" / f"{split}.jsonl", of(split, number))
    found = read_pair_set(tmp_path / "built")
    assert (found.name, len(found.pairs)) == ("built (test)", 3)
    other = read_pair_set(tmp_path / "built", split=Split.VALIDATION)
    assert (other.name, len(other.pairs)) == ("built (validation)", 2)


def test_a_file_of_several_splits_gives_test_unless_told(tmp_path: Path) -> None:
    file = tmp_path / "mixed.jsonl"
    write_pairs(file, [*of(Split.TRAIN, 5), *of(Split.VALIDATION, 4), *of(Split.TEST, 3)])
    assert [len(read_pair_set(file, split=split).pairs) for split in (None, Split.VALIDATION)] == [3, 4]
    write_pairs(file, of(Split.VALIDATION, 4))
    assert read_pair_set(file).name == "mixed (validation)"
    write_pairs(file, of(None, 4))
    assert read_pair_set(file).name == "mixed"
    with pytest.raises(UsageError, match="no pairs of the split validation"):
        read_pair_set(file, split=Split.VALIDATION)


def test_a_folder_without_the_split_is_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train.jsonl", of(Split.TRAIN, 2))
    with pytest.raises(UsageError, match=r"has no test\.jsonl; .*train\.jsonl"):
        read_pair_set(tmp_path)
    (tmp_path / "test.jsonl").write_text("")
    with pytest.raises(UsageError, match=r"test\.jsonl holds no pairs"):
        read_pair_set(tmp_path)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published predictions are not beside this project")
def test_published_figures_come_back_with_intervals_around_them() -> None:
    with (PUBLISHED / "moe_CVD.csv").open(encoding="utf8") as stream:
        rows = list(csv.DictReader(stream))
    pairs = [Pair("a", "b", "cvd", int(float(row["label"]))) for row in rows]
    scores = np.array([float(row["prediction"]) for row in rows])
    found = judge_scores(scores, pairs, model="published", samples=100).domains["cvd"]
    assert found["f1_max"].mean == pytest.approx(0.9060, abs=5e-5)
    assert found["f1_max"].low < 0.9060 < found["f1_max"].high
