"""Which pairs are learnt together: one domain, no text twice, nothing that belongs together held apart."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_retrieval.corpus.pairs import Pair
from moe_retrieval.training.batches import plan_steps, related_texts


def unrelated(domain: str, count: int) -> list[Pair]:
    return [Pair(f"{domain} a{at}", f"{domain} b{at}", domain) for at in range(count)]


def plan(pairs: list[Pair], *, size: int = 4, steps: int = 10, seed: int = 0) -> list[list[int]]:
    return plan_steps(pairs, size=size, steps=steps, seed=seed)


def few_texts() -> st.SearchStrategy[list[Pair]]:
    """Pairs of two domains over so few texts that they meet all the time."""
    text = st.sampled_from([f"t{at}" for at in range(9)])
    domain = st.sampled_from(["cvd", "skin"])
    label = st.sampled_from([1, 1, 1, 0])
    made = st.builds(Pair, a=text, b=text, domain=domain, label=label)
    return st.lists(made.filter(lambda pair: pair.a != pair.b), min_size=1, max_size=25)


@settings(deadline=None, max_examples=60)
@given(pairs=few_texts(), size=st.integers(2, 6), seed=st.integers(0, 3))
def test_whatever_the_pairs_a_batch_holds_only_true_negatives(
    pairs: list[Pair], size: int, seed: int
) -> None:
    if not any(pair.label for pair in pairs):
        return
    related = related_texts(pairs)
    for places in plan(pairs, size=size, steps=12, seed=seed):
        batch = [pairs[place] for place in places]
        assert 1 <= len(batch) <= size
        assert {pair.label for pair in batch} == {1}
        assert len({pair.domain for pair in batch}) == 1
        texts = [text for pair in batch for text in (pair.a, pair.b)]
        assert len(texts) == len(set(texts))
        for pair in batch:
            assert related[pair.a] & set(texts) == {pair.b}
            assert related[pair.b] & set(texts) == {pair.a}


@settings(deadline=None, max_examples=60)
@given(pairs=few_texts(), size=st.integers(2, 6))
def test_no_pair_waits_for_ever(pairs: list[Pair], size: int) -> None:
    positive = {place for place, pair in enumerate(pairs) if pair.label}
    if not positive:
        return
    seen = {place for places in plan(pairs, size=size, steps=120) for place in places}
    assert seen == positive


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 30), size=st.integers(2, 7), seed=st.integers(0, 3))
def test_every_pair_comes_once_before_any_comes_twice(count: int, size: int, seed: int) -> None:
    places = [place for one in plan(unrelated("cvd", count), size=size, steps=9, seed=seed) for place in one]
    for start in range(0, len(places) - count + 1, count):
        assert sorted(places[start : start + count]) == list(range(count))


def test_a_pair_that_does_not_fit_is_first_in_the_next_batch() -> None:
    pairs = [Pair("a", f"b{at}", "cvd") for at in range(3)]  # one a: never two of them in a batch
    steps = plan(pairs, steps=6)
    assert [len(places) for places in steps] == [1] * 6
    assert Counter(place for (place,) in steps) == {0: 2, 1: 2, 2: 2}


def test_a_text_is_kept_apart_from_what_another_pair_says_it_belongs_to() -> None:
    pairs = [Pair("a0", "b0", "cvd"), Pair("a1", "b1", "cvd"), Pair("a0", "b1", "cvd")]
    for places in plan(pairs, size=3, steps=20):
        assert len(places) == 1


def test_pairs_labelled_0_neither_train_nor_keep_apart() -> None:
    pairs = [*unrelated("cvd", 2), Pair("cvd a0", "cvd b1", "cvd", label=0)]
    assert all(sorted(places) == [0, 1] for places in plan(pairs, size=2))


def test_batches_are_full_where_there_are_pairs_enough() -> None:
    assert {len(places) for places in plan(unrelated("cvd", 50), size=8, steps=40)} == {8}


def test_a_domain_of_fewer_pairs_than_a_batch_gives_all_it_has() -> None:
    assert all(sorted(places) == [0, 1, 2] for places in plan(unrelated("cvd", 3), size=8))


def test_domains_are_drawn_by_the_square_root_of_their_size() -> None:
    pairs = [*unrelated("small", 100), *unrelated("large", 900)]
    drawn = Counter(pairs[places[0]].domain for places in plan(pairs, size=2, steps=4000))
    assert drawn["large"] / drawn["small"] == pytest.approx(3, rel=0.1)


def test_the_power_of_the_size_can_be_chosen() -> None:
    pairs = [*unrelated("small", 100), *unrelated("large", 900)]
    steps = plan_steps(pairs, size=2, steps=4000, seed=0, power=0)
    drawn = Counter(pairs[places[0]].domain for places in steps)
    assert drawn["large"] / drawn["small"] == pytest.approx(1, rel=0.1)


def test_equal_seeds_plan_equally_and_others_otherwise() -> None:
    pairs = [*unrelated("cvd", 30), *unrelated("skin", 30)]
    assert plan(pairs, seed=3) == plan(pairs, seed=3)
    assert plan(pairs, seed=3) != plan(pairs, seed=4)


def test_nothing_that_belongs_together_cannot_be_planned() -> None:
    with pytest.raises(ValueError, match="no pairs that belong together"):
        plan([Pair("a", "b", "cvd", label=0)])


def test_batches_are_full_though_twenty_pairs_share_an_a() -> None:
    pairs = [Pair(f"a{at // 20}", f"b{at}", "cvd") for at in range(2_000)]
    assert {len(places) for places in plan(pairs, size=32, steps=60)} == {32}
