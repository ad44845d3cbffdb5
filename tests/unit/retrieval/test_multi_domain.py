"""A document that the router is in doubt about lies in several domains; the same run again does no work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_retrieval import Document, Encoder, Indexer, Reindexer, Store
from moe_retrieval.corpus.readers import Scope, scope_of
from moe_retrieval.retrieval.indexer import IndexOptions
from moe_retrieval.retrieval.ingest.placing import AT_MOST
from moe_retrieval.router import Router
from moe_retrieval.router_choice import Choice, Kind
from moe_retrieval.types import GENERAL

HEART = ["heart attack", "blood pressure of the heart", "aspirin and stroke", "heart disease in a patient"]
SKIN = ["light and sun on the skin", "skin tumour", "sun and skin disease", "pain of the skin in light"]
EYE = ["immune cell", "malaria worm", "fever and worm", "worm of the immune patient"]
DOUBT = Document("doubt", "heart and skin")
CLEAR = Document("clear", "heart attack in a patient")


class PowerCutError(Exception):
    """The process is gone: nothing catches this."""


def homes(store: Store) -> dict[str, list[str]]:
    """Domains of every document in the live generation, by its id."""
    live = store.catalog.latest()
    assert live is not None
    found: dict[str, list[str]] = {}
    for domain, entry in sorted(live.domains.items()):
        for batch in store.view(entry).batches(("doc_id",)):
            for name in batch["doc_id"].to_pylist():
                found.setdefault(name, []).append(domain)
    return found


@pytest.fixture
def doubtful(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The router cannot tell what `DOUBT` is about, and is sure of everything else."""
    choose = Router.choose
    doubt = encoder.encode_document([DOUBT.text], domain=GENERAL)[0]

    def choosing(self: Router, vector: np.ndarray, *, at_most: int, of: Kind) -> Choice:
        found = choose(self, vector, of=of)
        several = np.allclose(vector, doubt, atol=1e-5)
        return replace(found, routes=found.chances[: at_most if several else 1])

    monkeypatch.setattr(Router, "choose", choosing)


@pytest.fixture
def filled(store: Store, encoder: Encoder, doubtful: None) -> Indexer:
    """The indexer of a store with three domains, whose router is in doubt about `DOUBT`."""
    indexer = Indexer(store, encoder=encoder, options=IndexOptions(window=1))
    for domain, texts in (("heart", HEART), ("skin", SKIN), ("worm", EYE)):
        indexer.index([Document(f"{domain}{at}", text) for at, text in enumerate(texts)], domain=domain)
    return indexer


def test_a_document_in_doubt_lies_in_each_domain_it_may_be_of(store: Store, filled: Indexer) -> None:
    report = filled.index([DOUBT, CLEAR], multi_domain=True)
    assert homes(store)["doubt"] == ["heart", "skin", "worm"]
    assert len(homes(store)["clear"]) == 1
    assert (report.documents, report.shared, report.encoded) == (2, 1, 4)


def test_without_being_asked_for_it_lies_in_one(store: Store, filled: Indexer) -> None:
    filled.index([DOUBT])
    assert len(homes(store)["doubt"]) == 1


def test_the_same_run_again_does_no_work(store: Store, filled: Indexer) -> None:
    filled.index([DOUBT, CLEAR], multi_domain=True)
    before = store.catalog.latest()
    for multi_domain in (True, False):
        report = filled.index([DOUBT, CLEAR], multi_domain=multi_domain)
        assert (report.encoded, report.unchanged, report.moved, report.shared) == (0, 2, 0, 1)
    assert store.catalog.latest() == before


def test_a_document_that_lay_in_one_domain_stays_there_while_it_is_the_same(
    store: Store, filled: Indexer
) -> None:
    filled.index([DOUBT], domain="skin")
    assert filled.index([DOUBT], multi_domain=True).unchanged == 1
    assert homes(store)["doubt"] == ["skin"]


@pytest.mark.parametrize("multi_domain", [True, False])
def test_a_change_reaches_every_copy(store: Store, filled: Indexer, *, multi_domain: bool) -> None:
    filled.index([DOUBT], multi_domain=True)
    changed = Document("doubt", DOUBT.text, metadata={"year": 2020})
    report = filled.index([changed], multi_domain=multi_domain)
    assert (report.encoded, report.moved) == (3, 0)
    assert homes(store)["doubt"] == ["heart", "skin", "worm"]
    assert filled.index([changed], multi_domain=multi_domain).encoded == 0


def test_one_that_is_no_longer_in_doubt_leaves_the_other_domains(store: Store, filled: Indexer) -> None:
    filled.index([DOUBT], multi_domain=True)
    report = filled.index([Document("doubt", "heart attack")], multi_domain=True)
    assert len(homes(store)["doubt"]) == 1
    assert report.moved == 1


def test_a_domain_that_is_named_is_the_only_one(store: Store, filled: Indexer) -> None:
    filled.index([DOUBT], multi_domain=True)
    report = filled.index([DOUBT], domain="skin")
    assert homes(store)["doubt"] == ["skin"]
    assert report.moved == 1
    assert filled.index([DOUBT], domain="skin").unchanged == 1


@pytest.mark.parametrize("written", [1, 2, 3])
def test_a_run_that_died_between_its_domains_is_finished_by_the_next(
    store: Store, filled: Indexer, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    from moe_retrieval.storage.tables.table import Table

    write, done = Table.write, []

    def dying(self: Table, *args: object, **options: object) -> None:
        if len(done) == written:
            raise PowerCutError
        done.append(write(self, *args, **options))  # type: ignore[arg-type, func-returns-value]

    with monkeypatch.context() as patched, pytest.raises(PowerCutError):
        patched.setattr(Table, "write", dying)
        filled.index(iter([DOUBT, CLEAR]), multi_domain=True)
    report = filled.index([DOUBT, CLEAR], multi_domain=True)
    assert homes(store)["doubt"] == ["heart", "skin", "worm"]
    assert report.encoded == 4 - written


def test_a_move_of_several_copies_that_was_cut_short_is_finished(store: Store, filled: Indexer) -> None:
    def documents() -> Iterator[Document]:
        yield DOUBT
        raise PowerCutError

    filled.index([DOUBT], multi_domain=True)
    with pytest.raises(PowerCutError):
        filled.index(documents(), domain="eye")
    filled.index([CLEAR], domain="heart")
    assert homes(store)["doubt"] == ["eye"]


def test_a_run_on_other_documents_leaves_all_copies(store: Store, filled: Indexer) -> None:
    filled.index([DOUBT], multi_domain=True)
    filled.index([CLEAR], domain="heart")
    assert homes(store)["doubt"] == ["heart", "skin", "worm"]


def test_a_document_that_is_gone_is_counted_once_and_leaves_every_domain(
    store: Store, filled: Indexer, tmp_path: Path
) -> None:
    source = tmp_path / "corpus" / "doubt.txt"
    source.parent.mkdir()
    filled.index([Document("doubt", DOUBT.text, source=str(source))], multi_domain=True)
    scope: Scope = scope_of([str(source.parent)])
    report = filled.index([], scope=scope, prune=True)
    assert (report.vanished, report.removed) == (1, 1)
    assert "doubt" not in homes(store)


def test_a_reindex_keeps_every_copy_and_the_next_run_does_no_work(
    store: Store, filled: Indexer, encoder: Encoder
) -> None:
    filled.index([DOUBT], multi_domain=True)
    Reindexer(store, encoder=encoder).run(domains=["skin"], force=True)
    assert homes(store)["doubt"] == ["heart", "skin", "worm"]
    assert filled.index([DOUBT], multi_domain=True).encoded == 0


def test_a_query_names_each_document_once(store: Store, filled: Indexer, encoder: Encoder) -> None:
    from moe_retrieval import Retriever

    filled.index([DOUBT], multi_domain=True)
    retriever = Retriever(store, encoder=encoder)
    hits = retriever.query("heart and skin", k=20, domains=["heart", "skin", "worm"]).hits
    retriever.close()
    assert [hit.doc_id for hit in hits].count("doubt") == 1


def test_no_document_lies_in_more_domains_than_allowed(filled: Indexer) -> None:
    assert 1 < AT_MOST < 8
    filled.index([Document("d", "light")], domain="light")
    filled.index([Document("e", "joint")], domain="joint")
    assert filled.index([DOUBT], multi_domain=True).encoded == AT_MOST
