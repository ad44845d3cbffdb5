"""A run that died while it moved documents: whatever comes next, each document has one home."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from moe_retrieval import Document, Encoder, Indexer, Reindexer, Store
from moe_retrieval.corpus.changes import KnownDocuments
from moe_retrieval.retrieval.indexer import IndexOptions
from moe_retrieval.retrieval.ingest.moves import unfinished_moves, without
from moe_retrieval.storage.catalog import Catalog

MOVED = Document("a", "aspirin for the heart")
OTHER = Document("b", "light on the skin")


class PowerCutError(Exception):
    """The process is gone: nothing catches this."""


def homes(store: Store) -> dict[str, list[str]]:
    """Domains of every document in the live generation, by its id."""
    live = store.catalog.latest()
    assert live is not None
    found: dict[str, list[str]] = {}
    for domain, entry in live.domains.items():
        for batch in store.view(entry).batches(("doc_id",)):
            for name in batch["doc_id"].to_pylist():
                found.setdefault(name, []).append(domain)
    return found


@pytest.fixture
def dying(store: Store, encoder: Encoder) -> Indexer:
    """The indexer of a store in whose last run "a" was written to skin, and not yet taken from cvd."""

    def documents() -> Iterator[Document]:
        yield MOVED
        raise PowerCutError

    indexer = Indexer(store, encoder=encoder, options=IndexOptions(window=1))
    indexer.index([MOVED], domain="cvd")
    indexer.index([OTHER], domain="skin")
    with pytest.raises(PowerCutError):
        indexer.index(documents(), domain="skin")
    return indexer


def test_a_run_on_other_documents_finishes_the_move(store: Store, dying: Indexer) -> None:
    dying.index([Document("b", "sun on the skin")], domain="skin")
    assert homes(store) == {"a": ["skin"], "b": ["skin"]}


def test_the_same_run_again_encodes_nothing(store: Store, dying: Indexer) -> None:
    report = dying.index([MOVED], domain="skin")
    assert (report.encoded, report.unchanged) == (0, 1)
    assert homes(store) == {"a": ["skin"], "b": ["skin"]}


def test_it_can_move_back(store: Store, dying: Indexer) -> None:
    dying.index([MOVED], domain="cvd")
    assert homes(store) == {"a": ["cvd"], "b": ["skin"]}


def test_a_dry_run_leaves_it_where_it_is(store: Store, dying: Indexer) -> None:
    dying.index([MOVED], domain="skin", dry_run=True)
    assert homes(store) == {"a": ["cvd"], "b": ["skin"]}


def test_a_move_that_was_not_published_is_undone_when_one_of_its_tables_is_made_anew(
    store: Store, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its other table must not be gone on with: the document would have left it for one that is no more."""

    def power_cut(*_: object, **__: object) -> None:
        raise PowerCutError

    indexer = Indexer(store, encoder=encoder)
    indexer.index([MOVED], domain="cvd")
    indexer.index([OTHER], domain="skin")
    with monkeypatch.context() as patched, pytest.raises(PowerCutError):
        patched.setattr(Catalog, "publish", power_cut)
        indexer.index([MOVED], domain="skin")
    Reindexer(store, encoder=encoder).run(domains=["skin"], force=True)
    indexer.index([Document("c", "a mole")], domain="skin")
    assert homes(store) == {"a": ["cvd"], "b": ["skin"], "c": ["skin"]}


def known(domain: str, keys: list[int], *, torn: tuple[int, ...] = (), stored: int = 0) -> KnownDocuments:
    complete = np.array([key not in torn for key in keys])
    return KnownDocuments(
        domain, keys=np.array(keys, np.int64), hashes=np.full(len(keys), stored, np.int64), complete=complete
    )


def test_a_copy_in_parts_goes_and_the_live_one_stays() -> None:
    tables = [known("cvd", [1, 2]), known("skin", [2, 3], torn=(2,))]
    live = {"cvd": np.array([1, 2], np.int64), "skin": np.array([3], np.int64)}
    assert unfinished_moves(tables, published=live.__getitem__) == {"cvd": [], "skin": [2]}


def test_copies_written_to_lie_in_several_domains_stay() -> None:
    """Whatever the live generation has, and though one was changed where the other was not yet."""
    tables = [known("cvd", [1, 2], stored=-5), known("skin", [1, 2], stored=-5), known("eye", [2], stored=-6)]
    live = dict.fromkeys(("cvd", "skin", "eye"), np.array([1], np.int64))
    assert unfinished_moves(tables, published=live.__getitem__) == {}


def test_a_copy_written_to_be_the_only_one_takes_the_place_of_several() -> None:
    tables = [known("cvd", [1], stored=-5), known("skin", [1], stored=-5), known("eye", [1], stored=7)]
    live = {"cvd": np.array([1]), "skin": np.array([1]), "eye": np.zeros(0, np.int64)}
    assert unfinished_moves(tables, published=live.__getitem__) == {"cvd": [1], "skin": [1], "eye": []}
    tables = [known("cvd", [1], stored=-5), known("skin", [1], stored=7)]
    live = {"cvd": np.array([1]), "skin": np.array([1])}
    assert unfinished_moves(tables, published=live.__getitem__) == {"cvd": [1], "skin": []}


def test_nobody_asks_for_the_live_documents_where_none_is_doubled() -> None:
    assert unfinished_moves([known("cvd", [1]), known("skin", [2])], published={}.__getitem__) == {}


def test_what_left_a_domain_is_not_known_there_any_more() -> None:
    assert without(known("cvd", [1, 2, 3]), [2]).keys.tolist() == [1, 3]
