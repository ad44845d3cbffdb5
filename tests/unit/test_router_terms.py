"""The words of known questions, and how these are put, say where others belong."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moe_retrieval.router import Router
from moe_retrieval.router_file import packed, unpacked
from moe_retrieval.router_queries import KnownQueries
from moe_retrieval.router_terms import TermClassifier, Terms

if TYPE_CHECKING:
    from pathlib import Path

OWN = {"law": "appeal court plaintiff statute", "skin": "eczema itch rash lesion"}
SHARED = "what does the newest study say about"


def questions(count: int, *, seed: int) -> tuple[list[str], list[str]]:
    """Questions of two domains, two of their own words each among words that all share, and the domains."""
    generator = np.random.default_rng(seed)
    labels = [sorted(OWN)[place] for place in generator.integers(0, 2, count)]
    drawn = [generator.choice(OWN[label].split() + SHARED.split(), 6).tolist() for label in labels]
    return [
        " ".join([*words, *generator.choice(OWN[label].split(), 2)])
        for words, label in zip(drawn, labels, strict=True)
    ], labels


def anywhere(count: int, *, seed: int) -> np.ndarray:
    """Unit vectors that say nothing of a domain."""
    vectors = np.random.default_rng(seed).normal(size=(count, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def router() -> Router:
    return Router.fit(anywhere(200, seed=0), ["law", "skin"] * 100, groups=np.arange(200))


@pytest.fixture(scope="module")
def taught(router: Router) -> Router:
    texts, labels = questions(200, seed=1)
    return router.asked(KnownQueries.of(texts, anywhere(200, seed=1), domains=labels))


def test_words_tell_what_vectors_do_not(router: Router, taught: Router) -> None:
    texts, labels = questions(200, seed=2)
    vectors = anywhere(200, seed=2)
    assert accuracy(router.probabilities(vectors, texts), labels) < 0.7
    assert accuracy(taught.probabilities(vectors, texts), labels) > 0.95


@pytest.mark.parametrize(
    "asked",
    [
        {"law": "what may a court do", "skin": "do what a court may"},
        {"law": "what may a court do?", "skin": "what may a court do"},
    ],
    ids=["order", "marks"],
)
def test_questions_of_the_same_words_are_told_apart_by(router: Router, asked: dict[str, str]) -> None:
    labels = ["law", "skin"] * 40
    known = KnownQueries.of([asked[one] for one in labels], anywhere(80, seed=12), domains=labels)
    chances = router.asked(known).probabilities(anywhere(2, seed=13), [asked["law"], asked["skin"]])
    assert chances[0, 0] > 0.7
    assert chances[1, 1] > 0.7


def test_without_words_a_question_is_less_sure(taught: Router) -> None:
    texts, _labels = questions(200, seed=2)
    vectors = anywhere(200, seed=2)
    with_words, without = taught.probabilities(vectors, texts), taught.probabilities(vectors)
    assert with_words.max(axis=1).mean() > without.max(axis=1).mean() + 0.1


def test_a_document_is_not_judged_by_the_words_of_questions(router: Router, taught: Router) -> None:
    from moe_retrieval.router_choice import Kind

    vectors = anywhere(20, seed=3)
    texts, _labels = questions(20, seed=3)
    np.testing.assert_array_equal(
        taught.probabilities(vectors, texts, of=Kind.DOCUMENT),
        router.probabilities(vectors, of=Kind.DOCUMENT),
    )


def test_each_question_is_tried_on_a_classifier_that_had_not_seen_it() -> None:
    """Labels that no word explains: who had seen the question would know it."""
    generator = np.random.default_rng(4)
    texts = [" ".join(generator.choice(SHARED.split(), 4)) + f" word{place // 2}" for place in range(200)]
    labels = generator.permutation(["law", "skin"] * 100).tolist()
    fitted = TermClassifier.fit(Terms.of(texts), labels)
    assert fitted is not None
    assert accuracy(fitted.logits(Terms.of(texts)), labels) > 0.7
    assert accuracy(fitted.tried, labels) < 0.6


def test_a_question_asked_twice_is_tried_on_a_classifier_that_saw_neither() -> None:
    generator = np.random.default_rng(5)
    texts = [f"{generator.choice(SHARED.split())} word{place} other{place}" for place in range(100)]
    labels = generator.permutation(["law", "skin"] * 50).tolist()
    fitted = TermClassifier.fit(Terms.of(texts * 2), labels * 2)
    assert fitted is not None
    assert accuracy(fitted.logits(Terms.of(texts)), labels) > 0.95
    assert accuracy(fitted.tried, labels * 2) < 0.65


def test_the_only_question_of_a_domain_may_be_one_that_another_was_asked_too() -> None:
    texts, labels = questions(60, seed=6)
    fitted = TermClassifier.fit(Terms.of([*texts, texts[0]]), [*labels, "eye"])
    assert fitted is not None
    assert fitted.domains == ("eye", "law", "skin")
    assert np.isfinite(fitted.tried).all()
    assert not fitted.tried[60].any()


def test_words_that_no_question_had_say_nothing(taught: Router) -> None:
    vector = anywhere(1, seed=5)[0]
    assert taught.route(vector, "xylophone zeppelin", mass=1.0) == taught.route(vector, "", mass=1.0)


def test_case_and_spaces_do_not_matter() -> None:
    once, shouted = Terms.of(["Eczema rash"]), Terms.of(["ECZEMA\n  rash "])
    np.testing.assert_array_equal(once.buckets, shouted.buckets)
    np.testing.assert_array_equal(once.counts, shouted.counts)


def test_taken_texts_keep_their_words() -> None:
    terms = Terms.of(["law of appeal", "", "rash rash itch"]).take([2, 0])
    assert [int(one) for one in np.diff(terms.starts)] == [4, 5]  # words and pairs
    assert sorted(terms.counts[:4].tolist()) == [1, 1, 1, 2]


@pytest.mark.parametrize(
    "text", ["", "!?", "a b c", "\x00", "\ud800 \udce9", "é" * 100_000, "rash " * 100_000]
)
def test_odd_questions_are_routed(taught: Router, text: str) -> None:
    chances = taught.probabilities(anywhere(1, seed=6), [text])
    assert np.isfinite(chances).all()


def test_questions_that_share_no_word_teach_none(router: Router) -> None:
    texts = [f"only{place}" for place in range(60)]
    known = router.asked(KnownQueries.of(texts, anywhere(60, seed=7), domains=["law", "skin"] * 30)).queries
    assert known.fitted
    assert known.classifier is None


def test_a_domain_without_questions_is_neither_favoured_nor_slighted() -> None:
    wide = Router.fit(anywhere(300, seed=8), ["eye", "law", "skin"] * 100, groups=np.arange(300))
    texts, labels = questions(200, seed=1)
    taught = wide.asked(KnownQueries.of(texts, anywhere(200, seed=1), domains=labels))
    words = taught.queries.said(anywhere(1, seed=9), ["eczema"], domains=taught.domains)[1][0]
    assert words[0] == pytest.approx(words[1:].mean())
    assert words[2] > words[0] > words[1]


def test_a_router_fitted_later_does_not_learn_the_words_again(taught: Router) -> None:
    later = taught.asked(taught.queries).queries
    assert later.classifier is taught.queries.classifier


def test_a_dropped_domain_takes_its_words_along(taught: Router) -> None:
    left = taught.queries.among(["skin"])
    assert set(left.domains) == {"skin"}
    assert len(left.terms) == len(left.domains)
    assert left.classifier is None


def test_a_saved_router_knows_the_words(taught: Router, tmp_path: Path) -> None:
    again = Router.load(tmp_path / f"{taught.save(tmp_path)}.safetensors")
    texts, _labels = questions(50, seed=10)
    vectors = anywhere(50, seed=10)
    np.testing.assert_allclose(
        again.probabilities(vectors, texts), taught.probabilities(vectors, texts), atol=1e-6
    )
    assert again.save(tmp_path) == taught.save(tmp_path)


def test_of_a_file_that_knows_no_pairs_of_words_only_the_questions_are_taken(
    taught: Router, tmp_path: Path
) -> None:
    saved = (tmp_path / f"{taught.save(tmp_path)}.safetensors").read_bytes()
    arrays, said = unpacked(saved)
    older = packed({name.replace("terms.", "words."): one for name, one in arrays.items()}, said=said)
    path = tmp_path / f"{hashlib.sha256(older).hexdigest()}.safetensors"
    path.write_bytes(older)
    again = Router.load(path)
    assert again.queries.domains == taught.queries.domains
    assert not again.queries.fitted
    later = again.asked(again.queries).queries
    assert later.fitted
    assert later.classifier is None


def test_no_text_of_a_question_lies_in_the_file(taught: Router, tmp_path: Path) -> None:
    data = (tmp_path / f"{taught.save(tmp_path)}.safetensors").read_bytes()
    assert not any(word.encode() in data for word in ["eczema", "plaintiff", "newest"])


def test_a_renamed_domain_keeps_its_words(taught: Router, tmp_path: Path) -> None:
    renamed = taught.renamed("skin", "dermatology")
    again = Router.load(tmp_path / f"{renamed.save(tmp_path)}.safetensors")
    vector = anywhere(1, seed=11)[0]
    assert again.route(vector, "eczema rash itch", at_most=1)[0].domain == "dermatology"


def accuracy(scores: np.ndarray, labels: list[str]) -> float:
    best = np.array(sorted(OWN))[scores.argmax(axis=1)]
    return float((best == np.array(labels)).mean())
