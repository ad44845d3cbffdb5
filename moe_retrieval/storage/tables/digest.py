"""What a table holds in one short text, whatever the order of its rows.

A sum over rows needs no sorting, so it can be had every few seconds. It notices accidents, not attacks: who
may write to a store can make two contents with the same sum.
"""

from __future__ import annotations

import numpy as np

_LANES = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)
_BLOCK = 1 << 20
"""Rows mixed at a time: memory stays flat."""


def digest_of(keys: np.ndarray, hashes: np.ndarray) -> str:
    """48 hex digits of the (key, vector hash) rows, int64: two sums of 64-bit mixes, and the count."""
    sums = [0, 0]
    for start in range(0, len(keys), _BLOCK):
        part = slice(start, start + _BLOCK)
        key, value = (np.asarray(one[part], np.int64).view(np.uint64) for one in (keys, hashes))
        for lane, odd in enumerate(_LANES):
            mixed = _mix(_mix(key, odd) ^ value, odd)
            sums[lane] = (sums[lane] + int(mixed.sum(dtype=np.uint64))) % (1 << 64)
    return "".join(f"{number:016x}" for number in (*sums, len(keys)))


def _mix(values: np.ndarray, odd: int) -> np.ndarray:
    """A bijection of uint64: a step of `odd`, then splitmix64's finalizer (Steele et al., OOPSLA 2014)."""
    mixed = values * np.uint64(odd) + np.uint64(odd)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
