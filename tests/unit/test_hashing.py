"""Names of documents, chunks and files: stable, in range, and different where the things are."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_retrieval.hashing import (
    chunk_id,
    content_hash,
    document_key,
    file_sha256,
    hash63,
    homes_in,
    remembered,
    shared_hash,
)
from moe_retrieval.types import Document, Section

DOCUMENT = Document(
    "a",
    "some text",
    source="papers/a.pdf",
    title="A title",
    metadata={"year": 2015, "open": True, "mesh": ["x", "y"]},
    sections=(Section(0, 4, "Methods", 1),),
    domain="cvd",
)


@settings(deadline=None)
@given(st.binary())
def test_a_hash_fits_a_signed_column_and_is_never_negative(data: bytes) -> None:
    assert 0 <= hash63(data) < 1 << 63


def test_a_hash_is_the_same_on_every_machine() -> None:
    assert hash63(b"moeret") == 0x66EFD89912B58871


@settings(deadline=None)
@given(st.text(), st.text())
def test_source_and_id_are_told_apart(source: str, doc_id: str) -> None:
    assert document_key(source + "x", doc_id) != document_key(source, "x" + doc_id)


def test_one_id_in_two_sources_makes_two_documents() -> None:
    assert document_key("a.jsonl", "1") != document_key("b.jsonl", "1")


@pytest.mark.parametrize(
    "changed",
    [
        replace(DOCUMENT, text="some texts"),
        replace(DOCUMENT, title="Another title"),
        replace(DOCUMENT, metadata={**DOCUMENT.metadata, "year": 2016}),
        replace(DOCUMENT, metadata={**DOCUMENT.metadata, "year": "2015"}),
        replace(DOCUMENT, metadata={}),
        replace(DOCUMENT, sections=(Section(0, 4, "Results", 1),)),
        replace(DOCUMENT, sections=(Section(0, 5, "Methods", 1),)),
        replace(DOCUMENT, sections=(Section(0, 4, "Methods", 2),)),
        replace(DOCUMENT, sections=()),
    ],
)
def test_a_change_that_changes_the_rows_changes_the_hash(changed: Document) -> None:
    assert content_hash(changed, chunking="c") != content_hash(DOCUMENT, chunking="c")


def test_another_chunking_changes_the_hash() -> None:
    assert content_hash(DOCUMENT, chunking="256") != content_hash(DOCUMENT, chunking="128")


def test_text_and_title_are_told_apart() -> None:
    one, other = Document("a", "x", title="y"), Document("a", "y", title="x")
    assert content_hash(one, chunking="c") != content_hash(other, chunking="c")


def test_the_order_of_metadata_does_not_change_the_hash() -> None:
    turned = replace(DOCUMENT, metadata=dict(reversed(DOCUMENT.metadata.items())))
    assert content_hash(turned, chunking="c") == content_hash(DOCUMENT, chunking="c")


@pytest.mark.parametrize("moved", [replace(DOCUMENT, domain="onc"), replace(DOCUMENT, source="b", id="b")])
def test_place_and_name_do_not_change_the_content_hash(moved: Document) -> None:
    assert content_hash(moved, chunking="c") == content_hash(DOCUMENT, chunking="c")


def test_a_chunk_id_is_the_key_in_sixteen_digits_and_the_ordinal() -> None:
    assert chunk_id(255, 12) == "00000000000000ff.12"


@settings(deadline=None)
@given(st.integers(0, (1 << 63) - 1), st.integers(0, 1 << 31))
def test_a_chunk_id_tells_its_document_and_ordinal(key: int, ordinal: int) -> None:
    first, second = chunk_id(key, ordinal).split(".")
    assert (int(first, 16), int(second)) == (key, ordinal)


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_a_file_hash_is_the_sha256_of_its_bytes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * size)
    assert file_sha256(path) == hashlib.sha256(b"x" * size).hexdigest()


@pytest.fixture
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file, and a cache of its own for what is remembered of it at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("moe_retrieval.hashing._SETTLED", -1.0)
    (tmp_path / "file").write_bytes(b"one")
    return tmp_path / "file"


def test_what_was_computed_of_a_file_is_not_computed_again(settled: Path) -> None:
    assert remembered(settled, "length", lambda: "3\nbytes") == "3\nbytes"
    assert remembered(settled, "length", lambda: "again") == "3\nbytes"
    assert remembered(settled, "other", lambda: "of its own") == "of its own"


def test_a_changed_file_is_computed_anew(settled: Path) -> None:
    assert remembered(settled, "length", lambda: "3") == "3"
    settled.write_bytes(b"another")
    assert remembered(settled, "length", lambda: "7") == "7"


def test_a_damaged_note_is_as_good_as_none(settled: Path) -> None:
    assert remembered(settled, "length", lambda: "345") == "345"
    (note,) = (settled.parent / "cache").rglob("hashes/*")
    note.write_bytes(note.read_bytes()[:-1] + b"6")
    assert remembered(settled, "length", lambda: "7") == "7"


def test_a_file_just_written_is_not_relied_upon(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_retrieval.hashing._SETTLED", 3_600.0)
    assert remembered(settled, "length", lambda: "3") == "3"
    assert remembered(settled, "length", lambda: "again") == "again"


def test_the_hash_of_a_shared_document_says_in_how_many_domains_it_lies() -> None:
    digest = content_hash(DOCUMENT, chunking="c")
    stored = [shared_hash(digest, homes) for homes in (1, 2, 3)]
    assert stored[0] == digest
    assert stored[1] < 0 > stored[2]
    assert [homes_in(one, digest) for one in stored] == [1, 2, 3]
    assert homes_in(stored[1], digest + 1) == 0
