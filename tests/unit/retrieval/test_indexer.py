"""Indexing: what is new is added, what changed is replaced, what is the same costs nothing, nothing stands
twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest

from moe_retrieval import Document, Encoder, Indexer, Moeret, Store
from moe_retrieval.errors import StaleDomainError, UsageError
from moe_retrieval.retrieval.indexer import IndexOptions
from moe_retrieval.settings import Settings
from moe_retrieval.storage.tables.table import Table
from moe_retrieval.types import Rejected

LONG = " ".join(f"Sentence number {number} says something about the heart." for number in range(200))


def texts(store: Store, domain: str) -> list[str]:
    """Chunk texts of a domain as the live generation has them, sorted."""
    live = store.catalog.latest()
    assert live is not None
    found = []
    for batch in store.view(live.domains[domain]).batches(("content", "lead")):
        found += [row["content"][row["lead"] :] for row in batch.to_pylist()]
    return sorted(found)


def test_a_changed_document_replaces_its_old_chunks(store: Store, indexer: Indexer) -> None:
    indexer.index([Document("a", "first text")], domain="cvd")
    indexer.index([Document("a", "second text")], domain="cvd")
    assert texts(store, "cvd") == ["second text"]


def test_an_unchanged_document_is_not_encoded_again(indexer: Indexer) -> None:
    indexer.index([Document("a", "text")], domain="cvd")
    report = indexer.index([Document("a", "text")], domain="cvd")
    assert (report.encoded, report.unchanged, report.documents) == (0, 1, 1)


def test_a_run_that_changes_nothing_publishes_nothing(store: Store, indexer: Indexer) -> None:
    indexer.index([Document("a", "text")], domain="cvd")
    before = store.catalog.latest()
    indexer.index([Document("a", "text")], domain="cvd")
    assert store.catalog.latest() == before


def test_changed_metadata_alone_replaces_the_row(store: Store, indexer: Indexer) -> None:
    indexer.index([Document("a", "text", metadata={"year": 1999})], domain="cvd")
    report = indexer.index([Document("a", "text", metadata={"year": 2001})], domain="cvd")
    assert report.encoded == 1
    assert len(texts(store, "cvd")) == 1


def test_a_shorter_version_leaves_no_chunk_of_the_longer_one(store: Store, indexer: Indexer) -> None:
    indexer.index([Document("a", LONG)], domain="cvd")
    assert len(texts(store, "cvd")) > 3
    indexer.index([Document("a", "short now")], domain="cvd")
    assert texts(store, "cvd") == ["short now"]


def test_a_document_that_moves_to_another_domain_leaves_the_old_one(store: Store, indexer: Indexer) -> None:
    indexer.index([Document("a", "text"), Document("b", "other")], domain="cvd")
    report = indexer.index([Document("a", "text")], domain="copd")
    assert texts(store, "cvd") == ["other"]
    assert texts(store, "copd") == ["text"]
    assert (report.moved, report.removed) == (1, 0)


def test_the_same_id_from_two_sources_is_two_documents(store: Store, indexer: Indexer) -> None:
    indexer.index([Document("a", "one", source="/x"), Document("a", "two", source="/y")], domain="cvd")
    assert texts(store, "cvd") == ["one", "two"]


def test_the_second_of_two_equal_documents_is_rejected(store: Store, indexer: Indexer) -> None:
    report = indexer.index([Document("a", "one"), Document("a", "two")], domain="cvd")
    assert (report.documents, report.rejected) == (1, 1)
    assert texts(store, "cvd") == ["one"]


def test_rejected_documents_are_counted_and_the_rest_goes_on(store: Store, indexer: Indexer) -> None:
    report = indexer.index([Rejected("/x.pdf", "truncated"), Document("a", "one")], domain="cvd")
    assert report.rejections == (Rejected("/x.pdf", "truncated"),)
    assert texts(store, "cvd") == ["one"]


def test_a_document_without_a_domain_goes_where_the_router_sends_it(indexer: Indexer) -> None:
    heart = [Document(f"h{n}", f"heart attack artery blood pressure {n}") for n in range(30)]
    skin = [Document(f"s{n}", f"mole melanoma skin sun lesion {n}") for n in range(30)]
    indexer.index(heart, domain="cvd")
    indexer.index(skin, domain="skin")
    report = indexer.index([Document("new", "heart attack artery blood pressure 99")])
    assert report.routed == {"cvd": 1}


def test_a_routed_document_stays_where_it_is_when_it_changes(store: Store, indexer: Indexer) -> None:
    indexer.index([Document("a", "text")], domain="cvd")
    indexer.index([Document("b", "more")], domain="skin")
    indexer.index([Document("a", "another text")])
    assert texts(store, "cvd") == ["another text"]


def test_the_first_document_without_a_domain_founds_general(store: Store, indexer: Indexer) -> None:
    indexer.index([Document("a", "text")])
    assert texts(store, "general") == ["text"]


def test_a_name_without_letters_cannot_name_a_domain(indexer: Indexer) -> None:
    with pytest.raises(UsageError, match="cannot name a domain"):
        indexer.index([Document("a", "text")], domain="???")


def test_a_table_of_another_encoder_is_stale(store: Store, indexer: Indexer, tiny_model: Path) -> None:
    indexer.index([Document("a", "text")], domain="cvd")
    shorter = Encoder.load(tiny_model, max_length=24)
    with pytest.raises(StaleDomainError, match="moeret reindex --domain cvd"):
        Indexer(store, encoder=shorter).index([Document("b", "text")], domain="cvd")


def numbered(count: int) -> list[Document]:
    return [Document(str(number), f"text {number}") for number in range(count)]


def test_an_interrupted_run_ends_at_once_and_is_gone_on_with(
    store: Store, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def documents() -> Iterator[Document]:
        yield from numbered(10)
        patch.setattr(Encoder, "encode_document", lambda *_, **__: pytest.fail("what waits is encoded"))
        raise KeyboardInterrupt

    indexer = Indexer(store, encoder=encoder, options=IndexOptions(window=4))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        indexer.index(documents(), domain="cvd")
    report = indexer.index(numbered(12), domain="cvd")
    assert (report.encoded, report.unchanged) == (4, 8)
    assert len(texts(store, "cvd")) == 12


def test_an_interruption_right_after_a_commit_doubles_nothing(
    store: Store, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(table: Table, *args: Any, **options: Any) -> None:
        patch.undo()
        table.write(*args, **options)
        raise KeyboardInterrupt

    indexer = Indexer(store, encoder=encoder, options=IndexOptions(window=4))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Table, "write", write)
        indexer.index(numbered(10), domain="cvd")
    (left,) = store.leftovers(encoder.fingerprint).values()
    assert left.rows == 4
    indexer.index(numbered(10), domain="cvd")
    assert texts(store, "cvd") == sorted(one.text for one in numbered(10))


def test_chunks_that_an_older_version_left_twice_are_taken_out(store: Store, indexer: Indexer) -> None:
    indexer.index([Document("a", LONG), *numbered(3)], domain="cvd")
    live = store.catalog.latest()
    assert live is not None
    before, rows = texts(store, "cvd"), store.view(live.domains["cvd"]).dataset.to_table()
    lance.dataset(store.view(live.domains["cvd"]).dataset.uri).insert(rows.slice(0, 2))
    table = store.table(live.domains["cvd"].table, resume=True)
    store.catalog.publish(
        {"cvd": table.entry(expert="general")}, model=live.model, created=live.created, router=live.router
    )
    assert len(texts(store, "cvd")) == len(before) + 2
    report = indexer.index([Document("a", LONG)], domain="cvd")
    assert (report.unchanged, report.encoded) == (1, 0)
    assert texts(store, "cvd") == before


def test_long_runs_publish_in_between(store: Store, encoder: Encoder) -> None:
    seen: list[int] = []

    def documents() -> Iterator[Document]:
        for number in range(6):
            live = store.catalog.latest()
            seen.append(live.domains["cvd"].rows if live else 0)
            yield Document(str(number), f"text {number}")

    ticks = iter(range(0, 10_000, 10))
    options = IndexOptions(window=2, publish_seconds=15)
    Indexer(store, encoder=encoder, options=options, clock=lambda: next(ticks)).index(
        documents(), domain="cvd"
    )
    assert seen[0] == 0
    assert 0 < seen[-1] < 6


def test_a_dry_run_counts_and_changes_nothing(store: Store, indexer: Indexer) -> None:
    indexer.index([Document("a", "one"), Document("b", "two")], domain="cvd")
    before = store.catalog.latest()
    report = indexer.index([Document("a", "changed"), Document("b", "two")], domain="cvd", dry_run=True)
    assert (report.documents, report.encoded, report.unchanged) == (2, 1, 1)
    assert store.catalog.latest() == before
    assert texts(store, "cvd") == ["one", "two"]


def test_stored_vectors_are_those_of_the_content(store: Store, indexer: Indexer, encoder: Encoder) -> None:
    documents = [Document(str(n), f"text of number {n} " * (n + 1), title=f"Title {n}") for n in range(20)]
    indexer.index(documents, domain="cvd")
    live = store.catalog.latest()
    assert live is not None
    view = store.view(live.domains["cvd"])
    contents = [row for batch in view.batches(("content",)) for row in batch["content"].to_pylist()]
    np.testing.assert_allclose(view.vectors(), encoder.encode_document(contents, domain="cvd"), atol=1e-5)


def test_spans_re_slice_to_the_source(store: Store, indexer: Indexer) -> None:
    document = Document("a", LONG, title="Hearts")
    indexer.index([replace(document, source="/a.txt")], domain="cvd")
    live = store.catalog.latest()
    assert live is not None
    for batch in store.view(live.domains["cvd"]).batches(("content", "lead", "start", "end")):
        for row in batch.to_pylist():
            assert row["content"][row["lead"] :] == LONG[row["start"] : row["end"]]


def test_what_could_not_be_read_has_not_vanished(store: Store, indexer: Indexer, tmp_path: Path) -> None:
    from moe_retrieval.corpus.readers import scope_of

    inside, beside = str(tmp_path / "locked" / "a.txt"), str(tmp_path / "b.txt")
    indexer.index([Document("a", "one", source=inside), Document("b", "two", source=beside)], domain="cvd")
    unreadable = Rejected(str(tmp_path / "locked"), "permission denied")
    report = indexer.index([unreadable], domain="cvd", scope=scope_of([str(tmp_path)]), prune=True)
    assert (report.vanished, report.removed) == (1, 1)
    assert texts(store, "cvd") == ["one"]


def test_pruning_deletes_what_vanished_and_nothing_outside_the_paths(
    store: Store, indexer: Indexer, tmp_path: Path
) -> None:
    from moe_retrieval.corpus.readers import scope_of

    folder = tmp_path / "corpus"
    folder.mkdir()
    gone, outside = str(folder / "gone.txt"), str(tmp_path / "outside.txt")
    indexer.index(
        [Document("g", "gone", source=gone), Document("o", "outside", source=outside)], domain="cvd"
    )
    indexer.index([], domain="cvd", scope=scope_of([str(folder)]), prune=True)
    assert texts(store, "cvd") == ["outside"]


def killed_after(documents: list[Document]) -> Iterator[Document]:
    """The documents, then the end of the process as far as the run can tell."""
    yield from documents
    raise RuntimeError("killed")


def test_a_document_that_moves_is_in_no_moment_in_no_domain(store: Store, encoder: Encoder) -> None:
    indexer = Indexer(store, encoder=encoder, options=IndexOptions(window=3))
    indexer.index([Document("d", "moving"), Document("x", "stays")], domain="cvd")
    later = [Document(str(n), f"text {n}", domain="cvd") for n in range(7)]
    with pytest.raises(RuntimeError):
        indexer.index(killed_after([Document("d", "moving", domain="copd"), *later]))
    indexer.index([Document("other", "other")], domain="third")
    live = store.catalog.latest()
    assert live is not None
    assert "moving" in [text for domain in live.domains for text in texts(store, domain)]


def test_a_removed_domain_does_not_come_back(store: Store, indexer: Indexer, tiny_model: Path) -> None:
    indexer.index([Document("a", "one")], domain="cvd")
    indexer.index([Document("b", "two")], domain="copd")
    moeret = Moeret.open(store.path, settings=Settings(model=str(tiny_model)))
    reindexer = moeret.reindexer()

    def die(_domain: str, _count: int) -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        reindexer.run(domains=["cvd"], force=True, progress=die)
    moeret.remove_domain("cvd")
    indexer.index([Document("c", "three")], domain="copd")
    live = store.catalog.latest()
    assert live is not None
    assert set(live.domains) == {"copd"}


def test_a_first_run_that_was_killed_is_taken_up(store: Store, encoder: Encoder) -> None:
    indexer = Indexer(store, encoder=encoder, options=IndexOptions(window=2))
    documents = [Document(str(number), f"text {number}") for number in range(6)]
    with pytest.raises(RuntimeError):
        indexer.index(killed_after(documents[:4]), domain="cvd")
    assert store.catalog.latest() is None
    report = indexer.index(documents, domain="cvd")
    assert (report.unchanged, report.encoded) == (4, 2)


def test_an_interrupted_dry_run_publishes_nothing(store: Store, encoder: Encoder) -> None:
    indexer = Indexer(store, encoder=encoder)
    indexer.index([Document("a", "one")], domain="cvd")
    before = store.catalog.latest()

    def interrupted() -> Iterator[Document]:
        yield Document("a", "changed")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        indexer.index(interrupted(), domain="cvd", dry_run=True)
    assert store.catalog.latest() == before


def test_a_documents_own_domain_comes_before_the_runs(store: Store, indexer: Indexer) -> None:
    indexer.index([Document("a", "one", domain="My Domain"), Document("b", "two")], domain="cvd")
    assert texts(store, "my-domain") == ["one"]
    assert texts(store, "cvd") == ["two"]


@pytest.mark.parametrize(
    "bad",
    [Document("a", "lone \ud800 surrogate"), Document("a\ud800", "text"), Document("a", "text", domain="?")],
)
def test_a_document_that_cannot_be_stored_is_rejected(store: Store, indexer: Indexer, bad: Document) -> None:
    report = indexer.index([bad, Document("good", "fine")], domain="cvd")
    assert (report.documents, report.rejected) == (1, 1)
    assert texts(store, "cvd") == ["fine"]


def test_a_damaged_router_is_fitted_again(store: Store, indexer: Indexer) -> None:
    indexer.index([Document(str(n), f"heart {n}") for n in range(5)], domain="cvd")
    indexer.index([Document(str(n), f"skin {n}", source="/s") for n in range(5)], domain="skin")
    live = store.catalog.latest()
    assert live is not None
    router = store.routers_dir / f"{live.router}.safetensors"
    router.write_bytes(b"damaged")
    indexer.index([Document("0", "heart 0")], domain="cvd")
    assert router.read_bytes() != b"damaged"
