"""Splits: no document and no text is in two of them, and every domain has its part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_retrieval.corpus.pairs import Pair, Split
from moe_retrieval.errors import UsageError
from moe_retrieval.training.pairs.splits import SplitPairs, check_disjoint, split_pairs
from moe_retrieval.training.pairs.texts import folded


def pair(a: str, b: str, **more: object) -> Pair:
    fields = {"domain": "cvd", "a_id": a, "b_id": b} | more
    return Pair(f"text of {a}", f"text of {b}", **fields)  # type: ignore[arg-type]


def apart(count: int, **more: object) -> list[Pair]:
    """Pairs that share nothing."""
    prefix = more.get("domain", "cvd")
    return [pair(f"{prefix} a{n}", f"{prefix} b{n}", **more) for n in range(count)]


def known(pairs: Sequence[Pair]) -> set[str]:
    """Everything that a split's pairs could be recognised by."""
    ids = {f"id {name}" for one in pairs for name in (one.a_id, one.b_id) if name}
    texts = {f"text {folded(text)}" for one in pairs for text in (one.a, one.b, *one.negatives)}
    return ids | texts


def sizes(found: SplitPairs) -> tuple[int, int, int]:
    return len(found.train), len(found.validation), len(found.test)


names = st.integers(0, 25)


@st.composite
def any_pairs(draw: st.DrawFn) -> list[Pair]:
    """Pairs of few documents, with shared texts, missing ids, dates and hard negatives."""
    drawn = st.tuples(
        names, names, st.sampled_from(["", "x", "y"]), st.integers(0, 1), st.lists(names, max_size=2)
    )
    dates = draw(st.sampled_from([(), ("2001", "2002", "2003-01")]))
    return [
        Pair(
            f"Text  {a % 20}",
            f"text {b % 20 + 5}",
            domain=domain,
            label=label,
            a_id=f"d{a}" if a % 3 else "",
            b_id=f"d{b}" if b % 4 else "",
            date=draw(st.sampled_from(dates)) if dates else "",
            negatives=tuple(f"TEXT {n}" for n in negatives),
        )
        for a, b, domain, label, negatives in draw(st.lists(drawn, min_size=1, max_size=60))
    ]


@settings(deadline=None, max_examples=150)
@given(any_pairs(), st.integers(0, 3), st.booleans(), st.sampled_from([0.0, 0.1, 0.3]))
def test_no_document_and_no_text_is_in_two_splits(
    pairs: list[Pair], seed: int, grouped: bool, share: float
) -> None:
    groups = [f"g{n % 7}" for n in range(len(pairs))] if grouped else None
    found = split_pairs(pairs, seed=seed, validation=share, test=share, groups=groups)
    for one, other in combinations(Split, 2):
        assert not known(found.of(one)) & known(found.of(other))
    check_disjoint(found.train, found.validation, found.test)
    lost = sum(
        number for reason, number in found.dropped.items() if "another split" in reason and ":" in reason
    )
    assert sum(sizes(found)) + lost == len(pairs)
    assert all(one.split is split for split in Split for one in found.of(split))


def test_shares_are_those_asked_for_in_every_domain() -> None:
    pairs = apart(100, domain="cvd") + apart(50, domain="lung")
    found = split_pairs(pairs, seed=0, validation=0.2, test=0.1)
    count = {d: [sum(p.domain == d for p in found.of(s)) for s in Split] for d in ("cvd", "lung")}
    assert count == {"cvd": [70, 20, 10], "lung": [35, 10, 5]}
    assert found.dropped == {}


def test_the_seed_decides_and_the_order_of_pairs_does_not() -> None:
    pairs = apart(60)
    groups = [one.a_id for one in pairs]
    one, other = (split_pairs(pairs, seed=seed, groups=groups) for seed in (1, 2))
    turned = split_pairs(pairs[::-1], seed=1, groups=groups[::-1])
    assert one.test == turned.test[::-1]
    assert {p.a_id for p in one.test} != {p.a_id for p in other.test}


def test_a_group_stays_together() -> None:
    pairs = [pair(f"a{n}", f"b{n}{k}") for n in range(20) for k in range(5)]
    found = split_pairs(pairs, seed=0, groups=[one.a_id for one in pairs])
    homes = {one.a_id: {s for s in Split for p in found.of(s) if p.a_id == one.a_id} for one in pairs}
    assert {len(home) for home in homes.values()} == {1}
    assert sizes(found) == (80, 10, 10)


def test_a_giant_component_is_cut_and_loses_little() -> None:
    """A ring of articles, each of which cites a paper that the next one cites, too."""
    pairs = [pair(f"a{n}", f"b{(n * 4 + k) % 400}") for n in range(100) for k in range(5)]
    found = split_pairs(pairs, seed=0, groups=[one.a_id for one in pairs])
    assert sum(sizes(found)) >= 0.9 * len(pairs)
    assert min(sizes(found)) >= 40
    assert sum(found.dropped.values()) == len(pairs) - sum(sizes(found))


def test_without_groups_small_connected_sets_stay_whole() -> None:
    pairs = [pair(f"a{n}", f"b{n}{k}") for n in range(40) for k in range(3)]
    found = split_pairs(pairs, seed=0)
    assert sum(sizes(found)) == len(pairs)
    assert min(sizes(found)) >= 10


def test_random_negatives_do_not_cost_positive_pairs() -> None:
    positive = [pair(f"a{n}", f"b{n}") for n in range(200)]
    negative = [pair(f"a{n}", f"b{(n * 7 + 3) % 200}", label=0) for n in range(200)]
    found = split_pairs(positive + negative, seed=0)
    kept = sum(one.label for split in Split for one in found.of(split))
    assert kept >= 0.95 * len(positive)


def test_queries_that_share_all_their_documents_still_give_validation_pairs() -> None:
    pairs = [pair(f"q{n}", f"d{k}") for n in range(30) for k in range(30)]
    found = split_pairs(pairs, seed=0, groups=[one.a_id for one in pairs])
    assert min(sizes(found)) >= 5
    check_disjoint(found.train, found.validation, found.test)


def test_a_domain_too_small_to_share_out_is_for_training() -> None:
    found = split_pairs(apart(100, domain="cvd") + apart(6, domain="rare"), seed=0)
    assert [sum(p.domain == "rare" for p in found.of(s)) for s in Split] == [6, 0, 0]


def test_by_time_the_newest_are_test_and_the_next_validation() -> None:
    pairs = [replace(one, date=f"{1950 + n}") for n, one in enumerate(apart(50))]
    found = split_pairs(pairs[::2] + pairs[1::2], seed=0, validation=0.2, test=0.2)
    dates = [sorted(one.date for one in found.of(split)) for split in Split]
    assert (dates[0][-1], dates[1][0], dates[1][-1], dates[2][0]) == ("1979", "1980", "1989", "1990")


def test_dates_are_passed_over_where_one_is_missing_or_nobody_wants_them() -> None:
    dated = [replace(one, date=f"{1950 + n}") for n, one in enumerate(apart(50))]
    undated = [replace(one, date="") for one in dated]
    by_seed = [one.a_id for one in split_pairs(undated, seed=0).test]
    assert [one.a_id for one in split_pairs(dated, seed=0, by_time=False).test] == by_seed
    assert [one.a_id for one in split_pairs([*undated[:1], *dated[1:]], seed=0).test] == by_seed


def test_by_time_needs_dates() -> None:
    with pytest.raises(UsageError, match="3 of 3 pairs have no date"):
        split_pairs(apart(3), seed=0, by_time=True)


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (-0.1, 0.1), (1.0, 0.0), (float("nan"), 0.1)])
def test_shares_that_leave_nothing_are_refused(validation: float, test: float) -> None:
    with pytest.raises(UsageError, match="leave nothing to train on"):
        split_pairs(apart(3), seed=0, validation=validation, test=test)


def test_a_hard_negative_of_another_split_is_taken_out_of_its_pair() -> None:
    pairs = apart(40)
    there = split_pairs(pairs, seed=0)
    foreign, own = there.test[0].b, there.train[1].b
    place = pairs.index(replace(there.train[0], split=None))
    pairs[place] = replace(pairs[place], negatives=(foreign, own))
    found = split_pairs(pairs, seed=0)
    assert next(one for one in found.train if one.a_id == pairs[place].a_id).negatives == (own,)
    assert found.dropped == {"hard negatives of another split": 1}


def test_pairs_may_stay_where_they_say_they_belong() -> None:
    pairs = [replace(one, split=list(Split)[n % 3]) for n, one in enumerate(apart(9))]
    shared = replace(pairs[0], b="new text", b_id="new", split=Split.TEST)
    found = split_pairs([*pairs, shared], seed=0, keep=True)
    assert sizes(found) == (2, 3, 4)
    assert found.dropped == {"train: a document is in another split": 1}


def test_pairs_that_belong_nowhere_cannot_stay_there() -> None:
    with pytest.raises(UsageError, match="2 of 2 pairs do not say which split"):
        split_pairs(apart(2), seed=0, keep=True)


def test_a_document_in_two_splits_is_named() -> None:
    train = [replace(one, split=Split.TRAIN) for one in apart(3)]
    validation = [replace(pair("new", "cvd b1"), b="another text of it", split=Split.VALIDATION)]
    with pytest.raises(
        UsageError, match="validation shares 1 documents or texts with train, such as 'cvd b1'"
    ):
        check_disjoint(train, validation)


def test_a_text_in_two_splits_is_named_whatever_its_case_and_blanks() -> None:
    one, other = Pair("Aspirin and  stroke", "b"), Pair("c", "aspirin AND stroke")
    with pytest.raises(
        UsageError, match="set 2 shares 1 documents or texts with set 1, such as 'aspirin and"
    ):
        check_disjoint([one], [other])


def test_splits_that_share_nothing_pass() -> None:
    train, validation = apart(3), apart(3, domain="lung")
    check_disjoint(train, validation, [])
    with pytest.raises(UsageError, match="shares"):
        check_disjoint(train, [*validation, train[0]], [])
