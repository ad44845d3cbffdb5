"""Clocks that jump: which generation is live is decided by its number, never by a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

import pytest

from moe_retrieval import Document, Encoder, Indexer, Retriever, Store
from moe_retrieval.retrieval import publisher
from moe_retrieval.retrieval.indexer import IndexOptions
from moe_retrieval.storage.maintenance.gc import collect


@pytest.fixture
def years(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The year that the machine's clock shows when something is published: the last of the list."""
    shown = [2026]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls(shown[-1], 1, 1, tzinfo=tz)

    monkeypatch.setattr(publisher, "datetime", Clock)
    yield shown


def test_the_last_published_is_live_though_it_looks_the_oldest(
    store: Store, indexer: Indexer, encoder: Encoder, years: list[int]
) -> None:
    indexer.index([Document("a", "heart")], domain="cvd")
    years.append(1999)
    indexer.index([Document("a", "lung")], domain="cvd")
    live = store.catalog.latest()
    assert live is not None
    assert live.created.startswith("1999")
    assert [one.number for one in store.catalog.history()] == [1, 2]
    (hit,) = Retriever(store, encoder=encoder).query("lung").hits
    assert hit.text == "lung"


@pytest.mark.parametrize("later", [datetime(1980, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)])
def test_gc_keeps_the_newest_whatever_the_time(
    store: Store, indexer: Indexer, encoder: Encoder, years: list[int], later: datetime
) -> None:
    for text in ("heart", "lung", "skin"):
        years.append(years[-1] - 10)
        indexer.index([Document("a", text)], domain="cvd")
    collect(store, keep=1, clock=later.timestamp)
    assert store.catalog.numbers() == [3]
    (hit,) = Retriever(store, encoder=encoder).query("skin").hits
    assert hit.text == "skin"


@pytest.mark.parametrize("jump", [-3_600.0, 3_600.0])
def test_a_run_whose_clock_jumps_publishes_all_of_it(store: Store, encoder: Encoder, jump: float) -> None:
    now = [1_000.0]

    def documents() -> Iterator[Document]:
        for number in range(6):
            now[0] += jump if number == 3 else 1.0
            yield Document(str(number), f"heart {number}")

    options = IndexOptions(window=2, publish_seconds=30.0)
    indexer = Indexer(store, encoder=encoder, options=options, clock=lambda: now[0])
    assert indexer.index(documents(), domain="cvd").documents == 6
    live = store.catalog.latest()
    assert live is not None
    assert (live.partial, live.domains["cvd"].documents) == (False, 6)
