"""A new generation is opened beside the old one, and takes over from it what did not change."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from moe_retrieval import Document, Encoder, Indexer, Retriever, Store

if TYPE_CHECKING:
    from moe_retrieval.retrieval.snapshot import Snapshot
    from moe_retrieval.storage.catalog import Generation


@pytest.fixture
def retriever(store: Store, indexer: Indexer, encoder: Encoder) -> Retriever:
    indexer.index([Document(f"h{at}", f"heart {at}") for at in range(5)], domain="cvd")
    indexer.index([Document(f"s{at}", f"skin {at}") for at in range(5)], domain="skin")
    made = Retriever(store, encoder=encoder)
    made.query("heart", domains=["cvd", "skin"])
    return made


@pytest.fixture
def slowly(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Opening waits for the second event; the first says that it has begun."""
    begun, go_on, opened = threading.Event(), threading.Event(), retriever._opened

    def open_when_told(held: Snapshot | None, generation: Generation) -> Snapshot:
        begun.set()
        assert go_on.wait(30)
        return opened(held, generation)

    monkeypatch.setattr(retriever, "_opened", open_when_told)
    return begun, go_on


def test_while_one_thread_opens_a_generation_the_others_go_on_with_the_one_before(
    retriever: Retriever, encoder: Encoder, slowly: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slowly
    before = retriever.snapshot()
    elsewhere = Store.open(retriever.store.path)
    Indexer(elsewhere, encoder=encoder).index([Document("new", "heart worm")], domain="cvd")
    seen: list[int] = []
    opener = threading.Thread(target=lambda: seen.append(retriever.query("worm").generation))
    opener.start()
    assert begun.wait(30)
    assert retriever.query("heart").generation == before.generation.number
    go_on.set()
    opener.join()
    assert seen == [before.generation.number + 1]
    assert retriever.query("heart").generation == before.generation.number + 1


def test_what_was_published_through_the_same_store_is_waited_for(
    retriever: Retriever, indexer: Indexer, slowly: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slowly
    number = retriever.snapshot().generation.number
    indexer.index([Document("new", "heart worm")], domain="cvd")
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(retriever.query("worm").generation)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(30)
    go_on.set()
    for thread in threads:
        thread.join()
    assert seen == [number + 1] * 3


def test_a_domain_that_did_not_change_is_taken_over_open(retriever: Retriever, indexer: Indexer) -> None:
    before = retriever.snapshot()
    indexer.index([Document("new", "heart worm")], domain="cvd")
    after = retriever.snapshot()
    assert after is not before
    assert after.view("skin") is before.view("skin")
    assert after.index("skin") is before.index("skin")
    assert after.view("cvd") is not before.view("cvd")
    assert after.view("cvd").rows == before.view("cvd").rows + 1


def test_a_changed_domain_is_open_before_it_is_asked(retriever: Retriever, indexer: Indexer) -> None:
    indexer.index([Document("new", "heart worm")], domain="cvd")
    assert "cvd" in retriever.snapshot()._indexes


def test_a_domain_that_cannot_be_opened_fails_for_those_who_ask_it(
    retriever: Retriever, indexer: Indexer
) -> None:
    from moe_retrieval.errors import StoreError

    indexer.index([Document("new", "heart worm")], domain="cvd")
    live = retriever.store.catalog.latest()
    assert live is not None
    for file in (
        retriever.store.path / "tables" / f"{live.domains['cvd'].table}.lance" / "_versions"
    ).iterdir():
        file.unlink()
    assert retriever.query("skin", domains=["skin"]).generation == live.number
    with pytest.raises(StoreError):
        retriever.query("heart", domains=["cvd"])
