"""Publishes prepared tables in turn: python -m tests.flows.swapper STORE COUNT SECONDS

The tables of the last two generations are there with their indexes, so that a swap is all that happens. Odd
generations hold what the first of the two does. `SECONDS` pass between two swaps.
"""

from __future__ import annotations

import sys
import time

from moe_retrieval import Store

NOW = "2026-01-01T00:00:00+00:00"


def swap(place: str, count: int, seconds: float) -> None:
    catalog = Store.open(place).catalog
    prepared = {number % 2: catalog.read(number) for number in catalog.numbers()[-2:]}
    for number in range(catalog.numbers()[-1] + 1, catalog.numbers()[-1] + 1 + count):
        time.sleep(seconds)
        one = prepared[number % 2]
        catalog.publish(one.domains, model=one.model, router=one.router, created=NOW, after=number - 1)


if __name__ == "__main__":
    swap(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
