"""Keys are looked up as a dictionary would."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_retrieval.storage.lookup import distinct, places

NUMBERS = st.lists(st.integers(-5, 40), max_size=30)


@given(NUMBERS, st.sets(st.integers(-5, 40), max_size=20))
def test_each_key_has_its_place_or_none(keys: list[int], among: set[int]) -> None:
    ordered = sorted(among)
    found = places(np.array(keys, np.int64), among=np.array(ordered, np.int64))
    assert found.tolist() == [ordered.index(key) if key in among else -1 for key in keys]


@given(NUMBERS, st.lists(st.integers(-5, 40), max_size=20, unique=True))
def test_what_is_not_in_order_is_searched_by_its_order(keys: list[int], among: list[int]) -> None:
    values = np.array(among, np.int64)
    found = places(np.array(keys, np.int64), among=values, order=np.argsort(values))
    assert found.tolist() == [among.index(key) if key in among else -1 for key in keys]


@given(NUMBERS)
def test_different_keys_are_in_order(keys: list[int]) -> None:
    found = distinct(np.array(keys, np.int64))
    assert found.dtype == np.int64
    assert found.tolist() == sorted(set(keys))
