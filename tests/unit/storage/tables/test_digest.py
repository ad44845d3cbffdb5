"""The digest tells any two contents apart, and no two orders of the same one."""

from __future__ import annotations

import numpy as np
import pytest

from moe_retrieval.storage.tables.digest import digest_of

RANDOM = np.random.default_rng(5)
KEYS = RANDOM.integers(0, 1 << 62, 5_000)
HASHES = RANDOM.integers(0, 1 << 62, 5_000)


def changed(values: np.ndarray, at: int, by: int) -> np.ndarray:
    copy = values.copy()
    copy[at] += by
    return copy


def test_it_does_not_depend_on_the_order_of_rows() -> None:
    order = RANDOM.permutation(len(KEYS))
    assert digest_of(KEYS[order], HASHES[order]) == digest_of(KEYS, HASHES)


@pytest.mark.parametrize(
    ("keys", "hashes"),
    [
        (changed(KEYS, 7, 1), HASHES),
        (KEYS, changed(HASHES, 7, -1)),
        (KEYS[:-1], HASHES[:-1]),
        (np.append(KEYS, KEYS[0]), np.append(HASHES, HASHES[0])),
        (HASHES, KEYS),
        (KEYS, np.roll(HASHES, 1)),
        (changed(changed(KEYS, 0, 1), 1, -1), HASHES),
    ],
    ids=["key", "vector", "lost", "doubled", "swapped", "shuffled", "balanced"],
)
def test_every_difference_shows(keys: np.ndarray, hashes: np.ndarray) -> None:
    assert digest_of(keys, hashes) != digest_of(KEYS, HASHES)


def test_single_rows_do_not_collide() -> None:
    grid = np.array([(key, value) for key in range(-20, 20) for value in range(-20, 20)])
    assert len({digest_of(row[:1], row[1:]) for row in grid}) == len(grid)


def test_it_is_the_same_for_ever() -> None:
    none = np.zeros(0, np.int64)
    assert digest_of(none, none) == "0" * 48
    assert digest_of(np.array([1, 2]), np.array([3, 4])) == "d7ef0d87a2fb45120c41243a4e40461f0000000000000002"


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from moe_retrieval.storage.tables import digest

    whole = digest_of(KEYS, HASHES)
    monkeypatch.setattr(digest, "_BLOCK", 999)
    assert digest_of(KEYS, HASHES) == whole
