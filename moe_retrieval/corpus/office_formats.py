"""PDF and Word files."""

from __future__ import annotations

import logging
import re
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from moe_retrieval.corpus.assembly import Assembly, HeadingPath, one_line
from moe_retrieval.corpus.cleaning import clean
from moe_retrieval.corpus.sources import short
from moe_retrieval.errors import RejectedError
from moe_retrieval.types import Document, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.corpus.sources import Limits, SourceFile

# What the parsers raise on broken bytes besides their own errors; pypdf says that it may be any.
_BROKEN = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_OLD_OFFICE = b"\xd0\xcf\x11\xe0"  # OLE container: a .doc, or a .docx with a password
_RATIO_FROM = 10_000_000  # bytes unpacked; a small file that packs well is no bomb
_STYLE = re.compile(r"heading ([1-9])", re.IGNORECASE)
_NO_TITLE = re.compile(
    r"untitled|document\d*|microsoft word - .*|.*\.(docx?|pdf|indd|tex|dvi|qxd)", re.IGNORECASE
)
LONGEST_TITLE = 300


def read_pdf(file: SourceFile, limits: Limits) -> Iterator[Document | Rejected]:
    """The text of each page as a section with its number; a page that cannot be read is rejected alone."""
    from pypdf.errors import DependencyError, FileNotDecryptedError, PyPdfError

    limits.check_file(file.size)
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it narrates each oddity of a file
    try:
        yield from _pdf_items(file, limits)
    except (DependencyError, FileNotDecryptedError) as error:
        raise RejectedError("encrypted; save it without a password") from error
    except (PyPdfError, *_BROKEN) as error:
        raise RejectedError(f"not a readable PDF ({short(error)})") from error


def _pdf_items(file: SourceFile, limits: Limits) -> Iterator[Document | Rejected]:
    from pypdf import PdfReader

    reader = PdfReader(file.stream)
    if reader.is_encrypted and not reader.decrypt(""):
        raise RejectedError("protected with a password; save it without one")
    pages = len(reader.pages)
    if pages > limits.pages:
        raise RejectedError(f"more than {limits.pages:,} pages")
    assembly, broken = Assembly(), []
    for number in range(1, pages + 1):
        try:
            text = reader.pages[number - 1].extract_text()
        except _pdf_errors() as error:
            broken.append(Rejected(file.source, f"page {number}: {short(error)}"))
            continue
        assembly.begin(page=number)
        assembly.add(text)
        if assembly.size > limits.text_chars:
            raise RejectedError(f"more than {limits.text_chars:,} characters of text")
    if not assembly.text and not broken:
        raise RejectedError("no text in it; if it is a scan, run OCR over it first")
    yield from broken
    if assembly.text:
        yield Document(
            file.name, assembly.text, file.source, _sane_title(_pdf_title(reader)), sections=assembly.sections
        )


def _pdf_errors() -> tuple[type[Exception], ...]:
    from pypdf.errors import PyPdfError

    return (PyPdfError, *_BROKEN)


def _pdf_title(reader: Any) -> str:
    try:
        information = reader.metadata
        return str(information.title or "") if information is not None else ""
    except _pdf_errors():
        return ""  # a damaged information dictionary says nothing about the pages


def _sane_title(title: str) -> str:
    """The title, unless it is one that a program made up."""
    title = one_line(title)
    return "" if _NO_TITLE.fullmatch(title) or len(title) > LONGEST_TITLE or len(title) < 3 else title


def read_docx(file: SourceFile, limits: Limits) -> Iterator[Document]:
    """Paragraphs under the headings that their styles make; tables as lines of cells separated by tabs."""
    limits.check_file(file.size)
    _check_archive(file.stream, limits)
    try:
        import docx
        from docx.exceptions import PythonDocxError
        from docx.opc.exceptions import OpcError
    except ModuleNotFoundError as error:
        raise RejectedError("Word files need python-docx: pip install 'moeret[office]'") from error
    try:
        yield _docx_document(docx.Document(file.stream), file)
    except (OpcError, PythonDocxError, *_BROKEN) as error:
        raise RejectedError(f"not a readable Word file ({short(error)})") from error


def _check_archive(stream: BinaryIO, limits: Limits) -> None:
    """Refuse a zip bomb by what its directory declares; `zipfile` unpacks no more than that."""
    if stream.read(4) == _OLD_OFFICE:
        raise RejectedError("an old or password-protected Word file; save it as .docx without a password")
    stream.seek(0)
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
    except _BROKEN as error:
        raise RejectedError(f"not a readable Word file ({short(error)})") from error
    stream.seek(0)
    packed, unpacked = sum(part.compress_size for part in members), sum(part.file_size for part in members)
    if len(members) > limits.archive_members or unpacked > limits.archive_bytes:
        raise RejectedError("unpacks to more than a document should")
    if unpacked > _RATIO_FROM and unpacked > limits.archive_ratio * max(packed, 1):
        raise RejectedError(f"unpacks to more than {limits.archive_ratio} times its size")


def _docx_document(word: Any, file: SourceFile) -> Document:
    from docx.table import Table

    assembly, path = Assembly(), HeadingPath()
    title = _sane_title(str(word.core_properties.title or ""))
    for block in word.iter_inner_content():
        if isinstance(block, Table):
            assembly.add("\n".join(_row(row) for row in block.rows))
            continue
        style = str(block.style.name or "") if block.style is not None else ""
        if style == "Title":
            title = title or one_line(block.text)
        elif (found := _STYLE.fullmatch(style)) and block.text.strip():
            assembly.begin(path.enter(int(found[1]), block.text))
        assembly.add(block.text)
    return Document(file.name, assembly.text, file.source, title, sections=assembly.sections)


def _row(row: Any) -> str:
    return "\t".join(clean(cell.text).replace("\n", " ").strip() for cell in row.cells)
