"""Fusion: one space is ranked like one table, spaces are joined by rank, and no order is a matter of luck."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_retrieval.calibration import Basis, DomainCalibration, Tuning
from moe_retrieval.errors import UsageError
from moe_retrieval.retrieval.fusion import (
    ROUTE_POWER,
    SURE_ROUTE_POWER,
    VECTOR_WEIGHT,
    Place,
    Ranked,
    Searched,
    chosen_way,
    convex,
    fuse,
    reciprocal_rank,
    search_depth,
)
from moe_retrieval.storage.found import Found
from moe_retrieval.types import Across, Fusing, Mode, Why, Within

PLACES = st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 20))
LISTS = st.lists(st.lists(PLACES, unique=True, max_size=10), max_size=5)
SCORES = st.dictionaries(PLACES, st.integers(1, 1000).map(lambda n: n / 1000), max_size=12)


def found(scores: dict[int, float], *, k: int = 10_000) -> Found:
    keys = np.array(list(scores), np.int64)
    return Found.ranked(keys, np.array([scores[int(key)] for key in keys], np.float32), k=k)


def one_domain(
    domain: str,
    *,
    space: str = "general",
    vector: dict[int, float] | None = None,
    text: dict[int, float] | None = None,
    probability: float = 1.0,
    k: int = 10_000,
) -> Searched:
    return Searched(
        domain,
        space=space,
        probability=probability,
        vector=None if vector is None else found(vector, k=search_depth(k)),
        text=None if text is None else found(text, k=search_depth(k)),
    )


def random_scores(
    chance: random.Random, keys: range, *, share: float = 1.0, scale: float = 1.0
) -> dict[int, float]:
    """Distinct scores of some of the keys, exact in float32."""
    values = chance.sample(range(1, 100_000), len(keys))
    rows = zip(keys, values, strict=True)
    return {key: scale * value / 131_072 for key, value in rows if chance.random() < share}


def places(ranked: list[Ranked]) -> list[Place]:
    return [(one.domain, one.key) for one in ranked]


# --- reciprocal rank ---


@settings(deadline=None, max_examples=50)
@given(LISTS, st.randoms(use_true_random=False))
def test_the_order_of_the_lists_does_not_change_scores(
    lists: list[list[Place]], chance: random.Random
) -> None:
    turned = chance.sample(lists, len(lists))
    assert reciprocal_rank(turned) == pytest.approx(reciprocal_rank(lists), rel=1e-12)


@settings(deadline=None, max_examples=50)
@given(LISTS, PLACES)
def test_a_list_that_lacks_an_item_gives_it_nothing(lists: list[list[Place]], item: Place) -> None:
    having = [one for one in lists if item in one]
    assert reciprocal_rank(lists).get(item) == reciprocal_rank(having).get(item)


def test_a_better_rank_earns_more() -> None:
    scores = reciprocal_rank([[("a", 1), ("a", 2)]])
    assert scores["a", 1] > scores["a", 2]


def test_a_score_is_the_sum_of_weights_over_damped_ranks() -> None:
    scores = reciprocal_rank([[("a", 1), ("a", 2)], [("a", 2)]], weights=[0.5, 2.0], damping=60)
    assert scores == {("a", 1): 0.5 / 61, ("a", 2): 0.5 / 62 + 2.0 / 61}


def test_weights_must_be_as_many_as_lists() -> None:
    with pytest.raises(ValueError, match="zip"):
        reciprocal_rank([[("a", 1)]], weights=[1.0, 1.0])


# --- convex ---


@settings(deadline=None, max_examples=50)
@given(SCORES, SCORES, st.floats(0.1, 10), st.floats(-5, 5))
def test_scale_and_shift_of_cosines_change_nothing(
    vector: dict[Place, float], text: dict[Place, float], scale: float, shift: float
) -> None:
    moved = {place: scale * score + shift for place, score in vector.items()}
    assert convex(moved, text) == pytest.approx(convex(vector, text), abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(SCORES, SCORES, st.floats(0.01, 100))
def test_the_scale_of_bm25_changes_nothing(
    vector: dict[Place, float], text: dict[Place, float], scale: float
) -> None:
    grown = {place: scale * score for place, score in text.items()}
    assert convex(vector, grown) == pytest.approx(convex(vector, text), abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(SCORES, SCORES)
def test_a_convex_score_lies_between_nothing_and_one(
    vector: dict[Place, float], text: dict[Place, float]
) -> None:
    assert all(0 <= score <= 1 + 1e-12 for score in convex(vector, text).values())


@settings(deadline=None, max_examples=50)
@given(SCORES, SCORES)
def test_every_candidate_of_either_list_has_a_score(
    vector: dict[Place, float], text: dict[Place, float]
) -> None:
    assert convex(vector, text).keys() == vector.keys() | text.keys()


def test_a_candidate_without_text_match_earns_its_vector_share_only() -> None:
    assert convex({("a", 1): 0.9, ("a", 2): 0.1}, {("a", 2): 3.0})["a", 1] == pytest.approx(VECTOR_WEIGHT)


def test_a_candidate_without_vector_match_earns_its_text_share_only() -> None:
    assert convex({("a", 1): 0.9}, {("a", 2): 3.0})["a", 2] == pytest.approx(1 - VECTOR_WEIGHT)


def test_equal_cosines_all_earn_the_whole_vector_share() -> None:
    assert convex({("a", 1): 0.5, ("a", 2): 0.5}, {}, weight=0.7) == {("a", 1): 0.7, ("a", 2): 0.7}


def test_nothing_found_scores_nothing() -> None:
    assert convex({}, {}) == {}


# --- fuse ---


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("seed", range(15))
def test_domains_of_one_space_are_ranked_like_one_table(mode: Mode, seed: int) -> None:
    chance = random.Random(seed)
    k, rows = chance.choice([1, 3, 10, 30]), range(chance.choice([2, 12, 150, 600]))
    vector, text = random_scores(chance, rows), random_scores(chance, rows, share=0.6, scale=20)
    home = {key: f"domain-{chance.randrange(5)}" for key in rows}
    parts = [
        one_domain(
            name,
            vector={key: score for key, score in vector.items() if home[key] == name},
            text={key: score for key, score in text.items() if home[key] == name},
            k=k,
        )
        for name in sorted(set(home.values()))
    ]
    whole = fuse([one_domain("all", vector=vector, text=text, k=k)], mode=mode, k=k)
    pooled = fuse(parts, mode=mode, k=k)
    assert [(one.key, one.score) for one in pooled] == [(one.key, one.score) for one in whole]


def test_small_domains_of_one_space_give_all_their_chunks() -> None:
    parts = [one_domain(name, vector={at: 0.5, at + 1: 0.4}) for name, at in (("a", 1), ("b", 3), ("c", 5))]
    assert len(fuse(parts, mode=Mode.VECTOR, k=10)) == 6


@pytest.mark.parametrize("mode", Mode)
def test_a_scale_shift_of_one_space_changes_nothing_across_spaces(mode: Mode) -> None:
    chance = random.Random(1)
    own, other = random_scores(chance, range(40)), random_scores(chance, range(40))
    words = random_scores(chance, range(40), share=0.5)
    plain = one_domain("a", space="expert-a", vector=own, text=words, probability=0.6)
    shifted = one_domain(
        "a",
        space="expert-a",
        vector={key: 0.25 * score - 0.5 for key, score in own.items()},
        text={key: 8 * score for key, score in words.items()},
        probability=0.6,
    )
    rest = one_domain("b", space="expert-b", vector=other, text=words, probability=0.4)
    before, after = (fuse([part, rest], mode=mode, k=50) for part in (plain, shifted))
    assert [(one.domain, one.key, one.score) for one in after] == [
        (one.domain, one.key, one.score) for one in before
    ]


def test_a_space_of_higher_cosines_does_not_win_over_one_of_equal_weight() -> None:
    high = one_domain("a", space="expert-a", vector={1: 0.95, 2: 0.94}, probability=0.5)
    low = one_domain("b", space="expert-b", vector={3: 0.30, 4: 0.10}, probability=0.5)
    assert places(fuse([high, low], mode=Mode.VECTOR, k=4)) == [("a", 1), ("b", 3), ("a", 2), ("b", 4)]


def test_the_space_of_the_more_probable_domain_comes_first() -> None:
    unlikely = one_domain("a", space="expert-a", vector={1: 0.9}, probability=0.2)
    likely = one_domain("b", space="expert-b", vector={2: 0.1}, probability=0.8)
    assert places(fuse([unlikely, likely], mode=Mode.VECTOR, k=2)) == [("b", 2), ("a", 1)]


def test_a_space_weighs_as_much_as_its_most_probable_domain() -> None:
    shared = [
        one_domain("a", vector={1: 0.9}, probability=0.1),
        one_domain("b", vector={1: 0.8}, probability=0.5),
    ]
    own = one_domain("c", space="expert-c", vector={1: 0.9}, probability=0.4)
    assert places(fuse([*shared, own], mode=Mode.VECTOR, k=1)) == [("a", 1)]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["s", "t"]),
            st.dictionaries(st.integers(0, 9), st.sampled_from([0.25, 0.5, 0.75]), max_size=6),
            st.dictionaries(st.integers(0, 9), st.sampled_from([1.0, 2.0]), max_size=6),
        ),
        max_size=5,
    ),
    st.sampled_from(Mode),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_searches_changes_nothing(
    parts: list[tuple[str, dict[int, float], dict[int, float]]], mode: Mode, chance: random.Random
) -> None:
    searched = [
        one_domain(f"d{number}", space=space, vector=vector, text=text, probability=0.2)
        for number, (space, vector, text) in enumerate(parts)
    ]
    turned = chance.sample(searched, len(searched))
    assert fuse(turned, mode=mode, k=7) == fuse(searched, mode=mode, k=7)


def test_equal_scores_are_ordered_by_domain_and_key() -> None:
    parts = [one_domain("b", vector={2: 0.5, 1: 0.5}), one_domain("a", vector={9: 0.5})]
    assert places(fuse(parts, mode=Mode.VECTOR, k=3)) == [("a", 9), ("b", 1), ("b", 2)]


def test_vector_mode_keeps_the_cosines() -> None:
    ranked = fuse([one_domain("a", vector={1: 0.5, 2: 0.25}, text={3: 9.0})], mode=Mode.VECTOR, k=5)
    assert [one.score for one in ranked] == [0.5, 0.25]


def test_text_mode_keeps_the_text_scores() -> None:
    ranked = fuse([one_domain("a", vector={1: 0.5}, text={3: 9.0})], mode=Mode.TEXT, k=5)
    assert [(one.key, one.score) for one in ranked] == [(3, 9.0)]


@pytest.mark.parametrize("k", [1, 3, 1000])
def test_at_most_k_come_back(k: int) -> None:
    part = one_domain("a", vector=random_scores(random.Random(0), range(500)), k=k)
    assert len(fuse([part], mode=Mode.VECTOR, k=k)) == min(k, 500)


@pytest.mark.parametrize("seed", range(20))
def test_the_first_ten_do_not_depend_on_how_many_are_asked_for(seed: int) -> None:
    """Lists of 2,000 that have little in common, each as deep as a search for k hits would make it."""
    chance = random.Random(seed)
    vector = random_scores(chance, range(3_000), share=0.6)
    text = random_scores(chance, range(3_000), share=0.6, scale=10.0)

    def scores(k: int) -> dict[int, float]:
        near, match = (best(one, search_depth(k)) for one in (vector, text))
        part = one_domain("a", vector=near, text=match)
        return {one.key: one.score for one in fuse([part], mode=Mode.HYBRID, k=k)[:10]}

    few, many = scores(10), scores(200)
    assert [few[key] for key in few.keys() & many.keys()] == pytest.approx(
        [many[key] for key in few.keys() & many.keys()], abs=0.01
    )
    assert len(few.keys() & many.keys()) >= 9  # two that are all but equal may change places


def test_no_searches_find_nothing() -> None:
    assert fuse([], mode=Mode.HYBRID, k=5) == []


@pytest.mark.parametrize("mode", Mode)
def test_searches_that_were_not_made_find_nothing(mode: Mode) -> None:
    assert fuse([one_domain("a"), one_domain("b", space="t")], mode=mode, k=5) == []


def test_a_hit_says_its_route_ranks_and_scores() -> None:
    part = one_domain("a", vector={1: 0.5, 2: 0.75}, text={1: 3.0}, probability=0.7)
    by_key = {one.key: one.why for one in fuse([part], mode=Mode.HYBRID, k=5)}
    assert by_key == {1: Why(0.7, 2, 0.5, 1, 3.0), 2: Why(0.7, 1, 0.75, None, None)}


@pytest.mark.parametrize(("k", "depth"), [(1, 100), (20, 100), (21, 105), (10_000, 50_000)])
def test_a_search_goes_a_hundred_deep_or_five_times_k(k: int, depth: int) -> None:
    assert search_depth(k) == depth


# --- across spaces, as asked for ---


def best(scores: dict[int, float], depth: int) -> dict[int, float]:
    return dict(sorted(scores.items(), key=lambda pair: -pair[1])[:depth])


def calibrations(
    *, scale: float = 1.0, shift: float = 0.0, intercept: float = -5
) -> dict[str, DomainCalibration]:
    """The same curve for both domains, `a` measured on a scale of its own."""
    return {
        "a": DomainCalibration(10 / scale, intercept - 10 * shift / scale),
        "b": DomainCalibration(10, intercept),
    }


def two_spaces(
    chance: random.Random, *, scale: float = 1.0, shift: float = 0.0, probability: float = 0.5
) -> list[Searched]:
    own, other = random_scores(chance, range(40)), random_scores(chance, range(100, 140))
    words, apart = (
        random_scores(chance, range(40), share=0.5),
        random_scores(chance, range(100, 140), share=0.5),
    )
    moved = {key: scale * score + shift for key, score in own.items()}
    return [
        one_domain("a", space="expert-a", vector=moved, text=words, probability=probability),
        one_domain("b", space="expert-b", vector=other, text=apart, probability=0.5),
    ]


@pytest.mark.parametrize("mode", [Mode.VECTOR, Mode.HYBRID])
def test_calibrated_spaces_of_any_scale_are_ranked_like_one_space(mode: Mode) -> None:
    shifted = two_spaces(random.Random(2), scale=0.25, shift=0.5)
    plain = [replace(one, space="general") for one in two_spaces(random.Random(2))]
    rare = calibrations(scale=0.25, shift=0.5, intercept=-40)  # where log p is a straight line of the cosine
    found = fuse(shifted, mode=mode, k=50, calibration=rare)
    assert places(found) == places(fuse(plain, mode=mode, k=50))


def test_a_weight_tuned_for_sums_is_none_of_ranks() -> None:
    searched = two_spaces(random.Random(4))[:1]
    ranks = Fusing(within=Within.RRF)
    tuned = fuse(searched, mode=Mode.HYBRID, k=20, fusing=ranks, tuning=Tuning(weight=0.05))
    assert tuned == fuse(searched, mode=Mode.HYBRID, k=20, fusing=ranks)
    asked = fuse(searched, mode=Mode.HYBRID, k=20, fusing=replace(ranks, weight=0.05))
    assert places(asked) != places(tuned)


@pytest.mark.parametrize("space", ["one", "two"])
def test_a_hybrid_score_in_a_less_likely_domain_is_lower(space: str) -> None:
    """The same scores in both domains; only the routes differ."""
    vector, text = {1: 0.9, 2: 0.5, 3: 0.1}, {1: 4.0, 2: 2.0}
    likely = one_domain("b", space="one", vector=vector, text=text, probability=0.8)
    doubtful = one_domain("a", space=space, vector={9 + key: score for key, score in vector.items()},
                          text={9 + key: score for key, score in text.items()}, probability=0.1)  # fmt: skip
    known = {name: DomainCalibration(10, -5, basis=Basis.STATISTICS) for name in "ab"}
    scores = {
        one.key: one.score for one in fuse([doubtful, likely], mode=Mode.HYBRID, k=6, calibration=known)
    }
    assert scores[1] == pytest.approx(1.0)
    assert scores[10] == pytest.approx((0.1 / 0.8) ** ROUTE_POWER)


def test_the_route_of_a_router_that_is_sure_of_questions_counts_more() -> None:
    likely = one_domain("b", vector={1: 0.9, 2: 0.5}, text={1: 4.0, 2: 2.0}, probability=0.8)
    doubtful = one_domain("a", vector={11: 0.9, 12: 0.5}, text={11: 4.0, 12: 2.0}, probability=0.1)

    def second(power: float) -> float:
        parts = [replace(one, route_power=power) for one in (likely, doubtful)]
        return next(one.score for one in fuse(parts, mode=Mode.HYBRID, k=4) if one.domain == "a")

    assert second(SURE_ROUTE_POWER) == pytest.approx((0.1 / 0.8) ** SURE_ROUTE_POWER)
    assert second(SURE_ROUTE_POWER) < second(ROUTE_POWER) < 1.0


def test_judged_curves_make_the_route_count_in_full() -> None:
    """Without full text what is left is the vector list, scaled from its last to its best."""
    likely = one_domain("b", space="one", vector={1: 0.9, 2: 0.1}, probability=0.8)
    doubtful = one_domain("a", space="two", vector={11: 0.9, 12: 0.1}, probability=0.1)

    def second(basis: Basis) -> float:
        known = {name: DomainCalibration(10, -40, basis=basis) for name in "ab"}
        ranked = fuse([likely, doubtful], mode=Mode.HYBRID, k=4, calibration=known)
        return next(one.score for one in ranked if one.key == 11)

    assert second(Basis.STATISTICS) == pytest.approx(VECTOR_WEIGHT * (0.1 / 0.8) ** ROUTE_POWER)
    assert second(Basis.JUDGED) < 0.8 * second(Basis.STATISTICS)


def test_domains_that_a_caller_named_are_alike_to_a_hybrid_score() -> None:
    parts = [
        one_domain(name, vector={key: 0.9}, text={key: 2.0}, probability=1.0) for key, name in enumerate("ab")
    ]
    assert {one.score for one in fuse(parts, mode=Mode.HYBRID, k=2)} == {1.0}


def test_a_calibrated_vector_score_is_the_route_times_the_probability() -> None:
    chance = random.Random(3)
    known = calibrations()
    ranked = fuse(two_spaces(chance, probability=0.25), mode=Mode.VECTOR, k=5, calibration=known)
    for one in ranked:
        assert one.why.vector_score is not None
        relevant = float(known[one.domain].probability(np.array([one.why.vector_score]))[0])
        assert np.exp(one.score) == pytest.approx(one.why.route_probability * relevant)


def test_raw_cosines_let_the_higher_scale_win() -> None:
    searched = two_spaces(random.Random(4), scale=0.1, shift=0.95)
    ranked = fuse(searched, mode=Mode.VECTOR, k=10, fusing=Fusing(across=Across.COSINE))
    assert {one.domain for one in ranked} == {"a"}


@pytest.mark.parametrize("way", [Across.ZSCORE, Across.DBSF, Across.WEIGHTED, Across.RRF])
@pytest.mark.parametrize("mode", Mode)
def test_ways_that_scale_by_a_list_of_its_own_do_not_see_the_scale(way: Across, mode: Mode) -> None:
    plain, shifted = (two_spaces(random.Random(5), scale=s, shift=c) for s, c in ((1.0, 0.0), (0.25, 0.5)))
    before, after = (fuse(part, mode=mode, k=40, fusing=Fusing(across=way)) for part in (plain, shifted))
    assert places(before) == places(after)


@pytest.mark.parametrize("way", Across)
@pytest.mark.parametrize("mode", Mode)
def test_one_space_is_fused_the_same_whatever_the_way(way: Across, mode: Mode) -> None:
    searched = [replace(one, space="general") for one in two_spaces(random.Random(6))]
    assert fuse(searched, mode=mode, k=20, fusing=Fusing(across=way)) == fuse(searched, mode=mode, k=20)


@pytest.mark.parametrize(
    ("known", "mode", "way"),
    [
        (("a", "b"), Mode.HYBRID, Across.CALIBRATED),
        (("a", "b"), Mode.VECTOR, Across.CALIBRATED),
        (("a", "b"), Mode.TEXT, Across.RRF),
        (("a",), Mode.HYBRID, Across.RRF),
        ((), Mode.VECTOR, Across.RRF),
    ],
)
def test_auto_takes_ranks_where_something_is_not_calibrated(
    known: tuple[str, ...], mode: Mode, way: Across
) -> None:
    part = {name: one for name, one in calibrations().items() if name in known}
    searched = two_spaces(random.Random(7))
    assert chosen_way(searched, mode=mode, fusing=Fusing(), calibration=part) is way


def test_calibrated_fusion_without_a_calibration_names_the_domain() -> None:
    with pytest.raises(UsageError, match="domain a is not calibrated"):
        fuse(two_spaces(random.Random(8)), mode=Mode.VECTOR, k=5, fusing=Fusing(across=Across.CALIBRATED))


# --- within a space, as asked for or tuned ---


def hybrid(**options: Any) -> list[Ranked]:
    part = one_domain("a", vector={1: 0.9, 2: 0.5, 3: 0.1}, text={3: 9.0, 2: 1.0})
    return fuse([part], mode=Mode.HYBRID, k=3, **options)


@pytest.mark.parametrize("within", Within)
def test_all_weight_on_one_search_gives_its_order(within: Within) -> None:
    by_vector, by_text = (hybrid(fusing=Fusing(within=within, weight=weight)) for weight in (1.0, 0.0))
    assert [one.key for one in by_vector] == [1, 2, 3]
    assert [one.key for one in by_text][:2] == [3, 2]


@pytest.mark.parametrize(
    ("fusing", "tuning", "weight"),
    [
        (Fusing(), Tuning(), VECTOR_WEIGHT),
        (Fusing(), Tuning(weight=0.4), 0.4),
        (Fusing(), Tuning(weight=0.4, weights={"a": 0.2}), 0.2),
        (Fusing(), Tuning(weight=0.4, weights={"b": 0.2}), 0.4),
        (Fusing(weight=0.9), Tuning(weight=0.4, weights={"a": 0.2}), 0.9),
    ],
)
def test_what_is_asked_goes_before_what_was_tuned(fusing: Fusing, tuning: Tuning, weight: float) -> None:
    asked = hybrid(fusing=Fusing(weight=weight))
    assert [(one.key, one.score) for one in hybrid(fusing=fusing, tuning=tuning)] == [
        (one.key, one.score) for one in asked
    ]


def test_domains_tuned_apart_are_pooled_with_the_mean_of_their_weights() -> None:
    vector, text = {1: 0.9, 2: 0.5}, {2: 1.0}
    parts = [
        one_domain("a", vector=vector, text=text, probability=0.75),
        one_domain("b", vector={3: 0.4}, probability=0.25),
    ]
    tuned = fuse(parts, mode=Mode.HYBRID, k=5, tuning=Tuning(weights={"a": 0.2, "b": 0.6}))
    asked = fuse(parts, mode=Mode.HYBRID, k=5, fusing=Fusing(weight=0.3))
    assert [(one.key, one.score) for one in tuned] == [(one.key, pytest.approx(one.score)) for one in asked]


# --- a document stored in several domains ---


@pytest.mark.parametrize("way", [Across.COSINE, Across.RRF, Across.ZSCORE])
def test_a_chunk_that_two_domains_hold_comes_once_and_names_the_other(way: Across) -> None:
    parts = [
        one_domain("a", space="expert-a", vector={7: 0.9, 8: 0.1}, probability=0.6),
        one_domain("b", space="expert-b", vector={7: 0.8, 9: 0.2}, probability=0.4),
    ]
    ranked = fuse(parts, mode=Mode.VECTOR, k=3, fusing=Fusing(across=way))
    assert sorted(one.key for one in ranked) == [7, 8, 9]
    assert {one.key: one.why.copies for one in ranked} == {7: ("b",), 8: (), 9: ()}
    assert ranked[0].domain == "a"
