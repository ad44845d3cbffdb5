"""Hits grow to what stands around them, and their offsets stay true."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from moe_retrieval import Document, Encoder, Indexer, Retriever, Store
from moe_retrieval.corpus.readers import read_corpus
from moe_retrieval.retrieval.refining.widening import joined, rereading, widened
from moe_retrieval.retrieval.snapshot import Snapshot
from moe_retrieval.types import Hit, Section, Widen

WORDS = "heart lung skin attack disease patient risk drug dose trial blood pressure cell worm malaria".split()  # noqa: SIM905


def prose(words: int, *, seed: int = 0) -> str:
    """Sentences of eight words."""
    draw = random.Random(seed)
    chosen = [draw.choice(WORDS) for _ in range(words)]
    return " ".join(" ".join(chosen[at : at + 8]) + "." for at in range(0, words, 8))


LONG = Document("long", prose(400), "made")
"""One section, many chunks (the tiny encoder takes 30 tokens)."""

PARTS = [prose(80, seed=1), prose(80, seed=2), prose(80, seed=3)]


def sectioned(gap: str, *, source: str = "made") -> Document:
    """Three sections of several chunks each, with white space between them that lies in no chunk."""
    starts = [0, len(PARTS[0]) + len(gap), len(PARTS[0]) + len(PARTS[1]) + 2 * len(gap)]
    sections = [
        Section(start, start + len(part), heading=f"Part {at}")
        for at, (start, part) in enumerate(zip(starts, PARTS, strict=True))
    ]
    return Document("parts", gap.join(PARTS), source, sections=tuple(sections))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True, durable=False)


@pytest.fixture
def retriever(store: Store, encoder: Encoder) -> Retriever:
    return Retriever(store, encoder=encoder)


def hits_of(retriever: Retriever, *, doc_id: str) -> list[Hit]:
    """All chunks of a document, as hits, in reading order."""
    hits = retriever.query("heart risk", mode="vector", k=500, domains=["cvd"]).hits
    return sorted((hit for hit in hits if hit.doc_id == doc_id), key=lambda hit: hit.start)


def grown(hit: Hit, widen: Widen, snapshot: Snapshot) -> Hit:
    return widened([hit], widen=widen, snapshot=snapshot, k=1).hits[0]


def test_neighbours_are_the_chunks_before_and_after(retriever: Retriever, indexer: Indexer) -> None:
    indexer.index([LONG], domain="cvd")
    chunks = hits_of(retriever, doc_id="long")
    assert len(chunks) > 10
    for at, hit in enumerate(chunks):
        found = grown(hit, Widen.NEIGHBOURS, retriever.snapshot())
        assert found.start == chunks[max(0, at - 1)].start
        assert found.end == chunks[min(len(chunks) - 1, at + 1)].end
        assert found.text == LONG.text[found.start : found.end]
        assert found.why.found == (hit.start, hit.end)
        assert (found.chunk_id, found.score) == (hit.chunk_id, hit.score)


def test_a_document_of_one_section_is_its_own_parent(retriever: Retriever, indexer: Indexer) -> None:
    indexer.index([LONG], domain="cvd")
    hit = hits_of(retriever, doc_id="long")[5]
    for widen in (Widen.PARENT, Widen.SECTION):
        found = grown(hit, widen, retriever.snapshot())
        assert (found.start, found.end, found.text) == (0, len(LONG.text), LONG.text)


@pytest.mark.parametrize("gap", ["\n\n", " ", "\n\u00a0\t\n"])
def test_a_section_is_all_of_it_and_no_more(retriever: Retriever, indexer: Indexer, gap: str) -> None:
    document = sectioned(gap)
    indexer.index([document], domain="cvd")
    chunks = hits_of(retriever, doc_id="parts")
    assert {hit.section for hit in chunks} == {"Part 0", "Part 1", "Part 2"}
    for hit in chunks:
        found = grown(hit, Widen.SECTION, retriever.snapshot())
        assert found.text == PARTS[int(hit.section[-1])]
        assert found.text == document.text[found.start : found.end]
        assert found.section == hit.section


@pytest.mark.parametrize("widen", list(Widen))
def test_a_text_that_grew_is_the_slice_of_its_source(
    retriever: Retriever, indexer: Indexer, widen: Widen
) -> None:
    document = sectioned("\n \n")
    indexer.index([document, LONG], domain="cvd")
    for doc in (document, LONG):
        for hit in hits_of(retriever, doc_id=doc.id):
            found = grown(hit, widen, retriever.snapshot())
            assert found.text == doc.text[found.start : found.end]
            assert found.start <= hit.start < hit.end <= found.end


def markdown(path: Path) -> Document:
    """A file of sections as the readers make it."""
    path.write_text("\n\n\n".join(f"# Part {at}\n\n{part}" for at, part in enumerate(PARTS)), "utf8")
    document = next(iter(read_corpus([str(path)], domain="cvd")))
    assert isinstance(document, Document)
    return document


def test_white_space_between_sections_is_read_from_the_source(
    retriever: Retriever, indexer: Indexer, tmp_path: Path
) -> None:
    document = markdown(tmp_path / "parts.md")
    indexer.index([document], domain="cvd")
    chunks = hits_of(retriever, doc_id=document.id)
    assert len({hit.section for hit in chunks}) == 3
    found = widened(chunks[:1], widen=Widen.PARENT, snapshot=retriever.snapshot(), k=1)
    assert found.short == 0
    assert found.hits[0].text == document.text.strip()
    assert found.hits[0].section == ""


@pytest.mark.parametrize("happened", ["gone", "changed", "shifted"])
def test_a_source_that_is_not_as_it_was_is_not_used(
    retriever: Retriever, indexer: Indexer, tmp_path: Path, happened: str
) -> None:
    path = tmp_path / "parts.md"
    document = markdown(path)
    indexer.index([document], domain="cvd")
    hit = hits_of(retriever, doc_id=document.id)[0]
    text = path.read_text("utf8")
    if happened == "gone":
        path.unlink()
    else:
        path.write_text(
            text.replace(".", ";", 1) if happened == "changed" else text.replace("\n\n\n", "\n\n"), "utf8"
        )
    found = widened([hit], widen=Widen.PARENT, snapshot=retriever.snapshot(), k=1)
    assert found.short == 1
    assert found.hits[0].text == document.text[found.hits[0].start : found.hits[0].end]
    assert len(found.hits[0].text) < len(document.text.strip())


def test_hits_within_a_better_one_give_their_places_to_the_next(
    retriever: Retriever, indexer: Indexer
) -> None:
    others = [Document(f"d{n}", prose(16, seed=n + 10), "made") for n in range(4)]
    indexer.index([LONG, *others], domain="cvd")
    hits = [*hits_of(retriever, doc_id="long"), *(hits_of(retriever, doc_id=one.id)[0] for one in others)]
    found = widened(hits, widen=Widen.PARENT, snapshot=retriever.snapshot(), k=3).hits
    assert [hit.doc_id for hit in found] == ["long", "d0", "d1"]


def test_a_document_that_a_killed_run_left_in_parts_grows_as_far_as_it_is_there(
    store: Store, retriever: Retriever, indexer: Indexer
) -> None:
    from moe_retrieval.retrieval.publisher import republish

    indexer.index([LONG], domain="cvd")
    chunks = hits_of(retriever, doc_id="long")
    live = store.catalog.latest()
    assert live is not None
    entry = live.domains["cvd"]
    table = store.table(entry.table)
    table._dataset().delete("ordinal = 6")
    fresh = table.entry(expert=entry.expert, before=entry, chunking=entry.chunking, precision=entry.precision)
    republish(store, {"cvd": fresh}, live=live)
    found = grown(chunks[5], Widen.PARENT, retriever.snapshot())
    assert found.text == LONG.text[found.start : found.end]
    assert found.end == chunks[5].end


def test_pieces_with_a_gap_between_them_are_not_joined() -> None:
    from moe_retrieval.retrieval.refining.stored import Piece

    one = Piece(0, 0, 4, "abcd", "", None)
    assert joined([one, Piece(1, 4, 6, "ef", "", None)]) == "abcdef"
    assert joined([one, Piece(1, 2, 6, "cdef", "", None)]) == "abcdef"
    assert joined([one, Piece(1, 1, 3, "bc", "", None)]) == "abcd"
    assert joined([one, Piece(1, 5, 6, "f", "", None)]) is None


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    read = rereading()
    for source in ("stdin", "made", "", str(tmp_path), str(tmp_path / "gone.md"), "parts.md"):
        assert read(source, "x") is None


def test_of_two_documents_with_one_id_the_first_is_read(tmp_path: Path) -> None:
    path = tmp_path / "twins.jsonl"
    path.write_text('{"_id": "a", "text": "first"}\n{"_id": "a", "text": "second"}\n', "utf8")
    assert rereading()(str(path), "a") == "first"


def test_a_hit_with_nothing_around_it_stays_as_it_is(retriever: Retriever, indexer: Indexer) -> None:
    indexer.index([Document("short", "heart attack", "made")], domain="cvd")
    hit = hits_of(retriever, doc_id="short")[0]
    for widen in Widen:
        assert grown(hit, widen, retriever.snapshot()) == hit
    assert replace(hit, rank=1).why.found is None
