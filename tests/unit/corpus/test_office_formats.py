"""PDF and Word files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import docx
import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject
from reading import document, headed, put, read, reasons

from moe_retrieval.corpus.readers import Limits
from moe_retrieval.types import Document, Rejected


def pdf(*pages: str, title: str = "", password: str = "") -> bytes:
    writer = PdfWriter()
    font = DictionaryObject(
        {NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
         NameObject("/BaseFont"): NameObject("/Helvetica")}
    )  # fmt: skip
    for text in pages:
        page = writer.add_blank_page(300, 300)
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
        )
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    if title:
        writer.add_metadata({"/Title": title})
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def word(build: bool = True) -> bytes:
    made = docx.Document()
    made.core_properties.title = "Word document"
    if build:
        made.add_paragraph("Before.")
        made.add_heading("Methods", 1)
        made.add_heading("Sampling", 2)
        made.add_paragraph("At random.")
        table = made.add_table(rows=1, cols=2)
        table.cell(0, 0).text, table.cell(0, 1).text = "a", "b"
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def packed(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


# --- PDF ---


def test_each_page_of_a_pdf_is_a_section_with_its_number(tmp_path: Path) -> None:
    found = document(put(tmp_path / "a.pdf", pdf("First page", "", "Third page", title="On aspirin")))
    assert (found.id, found.title, found.text) == ("a.pdf", "On aspirin", "First page\n\nThird page")
    assert [(part.page, found.text[part.start : part.end].strip()) for part in found.sections] == [
        (1, "First page"),
        (3, "Third page"),
    ]


@pytest.mark.parametrize("title", ["untitled", "Microsoft Word - draft", "paper_final.tex", "x", "y" * 400])
def test_titles_that_programs_make_up_are_left_out(tmp_path: Path, title: str) -> None:
    assert document(put(tmp_path / "a.pdf", pdf("Words", title=title))).title == ""


def test_a_scan_says_that_it_needs_ocr(tmp_path: Path) -> None:
    assert "OCR" in reasons(put(tmp_path / "a.pdf", pdf("", "")))[0]


def test_a_pdf_with_a_password_is_rejected(tmp_path: Path) -> None:
    assert reasons(put(tmp_path / "a.pdf", pdf("secret", password="x" * 3))) == [
        "protected with a password; save it without one"
    ]


def test_too_many_pages_are_rejected(tmp_path: Path) -> None:
    assert reasons(put(tmp_path / "a.pdf", pdf("a", "b", "c")), limits=Limits(pages=2)) == [
        "more than 2 pages"
    ]


# --- Word ---


def test_word_headings_are_sections_and_tables_are_lines(tmp_path: Path) -> None:
    found = document(put(tmp_path / "a.docx", word()))
    assert found.title == "Word document"
    assert headed(found) == [
        ("", "Before."),
        ("Methods", "Methods"),
        ("Methods > Sampling", "Sampling\n\nAt random.\n\na\tb"),
    ]


def test_a_word_file_without_text_is_rejected(tmp_path: Path) -> None:
    assert reasons(put(tmp_path / "a.docx", word(build=False))) == ["no text"]


def test_zip_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    bomb = packed({"word/document.xml": b"\0" * 50_000_000})
    assert reasons(put(tmp_path / "a.docx", bomb)) == ["unpacks to more than 100 times its size"]
    many = packed({f"m{number}": b"" for number in range(50)})
    assert (
        "more than a document should"
        in reasons(put(tmp_path / "b.docx", many), limits=Limits(archive_members=9))[0]
    )


def test_an_old_or_encrypted_word_file_says_what_to_do(tmp_path: Path) -> None:
    assert (
        "save it as .docx"
        in reasons(put(tmp_path / "a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)))[0]
    )


def test_entities_in_a_word_file_are_not_expanded(tmp_path: Path) -> None:
    members = {
        name: zipfile.ZipFile(io.BytesIO(word())).read(name)
        for name in zipfile.ZipFile(io.BytesIO(word())).namelist()
    }
    secret = put(tmp_path / "secret.bin", "SECRET")
    entity = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'.encode()
    head, body = members["word/document.xml"].split(b"?>", 1)
    members["word/document.xml"] = head + b"?>" + entity + body.replace(b"Before.", b"Before &e;.")
    for item in read(put(tmp_path / "a.docx", packed(members))):
        assert not isinstance(item, Document) or "SECRET" not in item.text


# --- both ---


@pytest.mark.parametrize("name", ["a.pdf", "a.docx"])
@pytest.mark.parametrize("cut", [0.05, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_rejected_or_read_in_part_but_never_fails(
    tmp_path: Path, name: str, cut: float
) -> None:
    whole = pdf("First page", "Second page") if name == "a.pdf" else word()
    items = read(put(tmp_path / name, whole[: int(len(whole) * cut)]))
    assert items
    assert all(isinstance(item, Document | Rejected) for item in items)
    assert name == "a.pdf" or isinstance(items[0], Rejected)
