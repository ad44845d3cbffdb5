"""XML of the biomedical literature: JATS articles (PMC) and PubMed records."""

from __future__ import annotations

import re
from html.entities import entitydefs
from typing import TYPE_CHECKING

from moe_retrieval.corpus.assembly import Assembly, one_line
from moe_retrieval.corpus.records import metadata_of
from moe_retrieval.corpus.sources import short
from moe_retrieval.errors import RejectedError
from moe_retrieval.types import Document, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO
    from xml.etree.ElementTree import Element

    from moe_retrieval.corpus.sources import Limits, SourceFile

    Items = Iterator[Document | Rejected]

_BLOCK = 1 << 20  # bytes fed at once: expat scans a long token again with every block
_DEEPEST = 200  # open elements; JATS in the wild stays under 40
_ROOTS = {"article": 0, "pmc-articleset": 1, "PubmedArticle": 0, "PubmedArticleSet": 1}
_RECORDS = frozenset({"article", "PubmedArticle", "PubmedBookArticle"})
_INLINE = frozenset(
    {"a", "abbrev", "b", "bold", "email", "ext-link", "fixed-case", "i", "inline-formula", "inline-graphic"}
    | {"italic", "monospace", "named-content", "overline", "roman", "sans-serif", "sc", "strike"}
    | {
        "styled-content",
        "sub",
        "sup",
        "u",
        "underline",
        "uri",
        "xref",
        "math",
        "mi",
        "mn",
        "mo",
        "mrow",
        "msub",
        "msup",
    }
)
_LEAVES = frozenset({"p", "title", "tr", "disp-formula", "verse-line", "def", "term", "preformat", "label"})
_UNREAD = frozenset(
    {
        "ref-list",
        "tex-math",
        "annotation",
        "graphic",
        "media",
        "permissions",
        "object-id",
        "fn-group",
        "label",
    }
)
_SHOWN_ELSEWHERE = frozenset({"graphical", "toc", "teaser", "key-points", "short"})
_YEAR = re.compile(r"\b(1[5-9]|20)\d\d\b")


def read_xml(file: SourceFile, limits: Limits) -> Items:
    """JATS: one document per `<article>`; PubMed: one per `<PubmedArticle>`, streamed.

    Entities are refused and a document type is never fetched (defusedxml).
    """
    from defusedxml.common import DefusedXmlException, EntitiesForbidden
    from defusedxml.ElementTree import ParseError

    number = 0
    try:
        for number, (element, alone) in enumerate(_elements(file, limits), start=1):
            fallback = file.name if alone else f"row-{number}"
            yield _document(element, source=file.source, name=file.name if alone else "", fallback=fallback)
    except EntitiesForbidden as error:
        raise RejectedError("declares XML entities, which are not read") from error
    except DefusedXmlException as error:
        raise RejectedError("refers to something outside of the file") from error
    except (ParseError, ValueError, LookupError) as error:
        place = f" after {number} records" if number else ""
        raise RejectedError(f"not well-formed XML{place} ({short(error)})") from error


# --- parsing ----------------------------------------------------------------------------------------------


class _Meter:
    """Feeds the parser large blocks, and stops it when one record takes more bytes than a record may."""

    def __init__(self, stream: BinaryIO, *, most: int) -> None:
        self._stream = stream
        self._most = most
        self._since = 0

    def read(self, _: int = -1) -> bytes:
        block = self._stream.read(_BLOCK)
        self._since += len(block)
        if self._since > self._most + _BLOCK:
            raise RejectedError(f"a record larger than {self._most:,} bytes")
        return block

    def record_ends(self) -> None:
        self._since = 0


def _elements(file: SourceFile, limits: Limits) -> Iterator[tuple[Element, bool]]:
    """Each record's element, whole, and whether it is the root; it is emptied when the next is asked for."""
    from defusedxml.ElementTree import XMLParser, iterparse

    parser = XMLParser(forbid_dtd=False, forbid_entities=True, forbid_external=True)
    parser.entity.update(entitydefs)  # those of HTML and JATS, which only the document type would declare
    meter = _Meter(file.stream, most=limits.record_bytes)
    path: list[str] = []
    root: Element | None = None
    elements = 0
    for event, element in iterparse(meter, events=("start", "end"), parser=parser):
        if event == "start":
            element.tag = _local(element.tag)
            if root is None:
                root = _checked_root(element, file, limits)
            path.append(element.tag)
            elements += 1
            _check_shape(len(path), elements, limits)
            continue
        path.pop()
        if element.tag in _RECORDS and len(path) == _ROOTS[(path or [element.tag])[0]]:
            yield element, not path
            element.clear()
            if root is not None:
                root.clear()
            meter.record_ends()
            elements = 0


def _checked_root(element: Element, file: SourceFile, limits: Limits) -> Element:
    if element.tag not in _ROOTS:
        raise RejectedError(
            f"XML of an unknown kind: <{element.tag[:40]}>, not <article> or <PubmedArticleSet>"
        )
    if _ROOTS[element.tag] == 0:
        limits.check_file(file.size)
    return element


def _check_shape(depth: int, elements: int, limits: Limits) -> None:
    if depth > _DEEPEST:
        raise RejectedError(f"nested deeper than {_DEEPEST} elements")
    if elements > limits.elements:
        raise RejectedError(f"a record of more than {limits.elements:,} elements")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


# --- documents --------------------------------------------------------------------------------------------


def _document(element: Element, *, source: str, name: str, fallback: str) -> Document | Rejected:
    """`name`: the id of the only document of a file; without it the record's own id, or `fallback`."""
    read = _jats if element.tag == "article" else _pubmed
    doc_id, title, fields, assembly = read(element)
    text = assembly.text or title
    if not text:
        place = "" if name else f"{doc_id or fallback}: "
        return Rejected(source, f"{place}neither a title nor an abstract nor a body")
    return Document(
        name or doc_id or fallback,
        text,
        source,
        title,
        metadata=metadata_of(fields),
        sections=assembly.sections,
    )


def _pubmed(record: Element) -> tuple[str, str, dict[str, object], Assembly]:
    """Structure: PubMed DTD; labelled parts of the abstract become sections."""
    citation = _first(record, "MedlineCitation", "BookDocument")
    assembly = Assembly()
    for part in citation.iterfind(".//Abstract/AbstractText"):
        label = one_line(part.get("Label", "")).capitalize()
        assembly.begin(label)
        body = _inline(part)
        assembly.add(f"{label}\n{body}" if label and body else body)
    fields: dict[str, object] = {
        "pmid": _words(citation, "PMID"),
        "doi": _words(record, "PubmedData/ArticleIdList/ArticleId[@IdType='doi']")
        or _words(citation, ".//ELocationID[@EIdType='doi']"),
        "journal": _words(citation, ".//Journal/Title"),
        "year": _year(citation, ".//JournalIssue/PubDate", ".//PubDate", ".//ArticleDate"),
        "mesh": [_inline(term) for term in citation.iterfind("MeshHeadingList/MeshHeading/DescriptorName")],
    }
    title = _words(citation, ".//ArticleTitle") or _words(citation, ".//BookTitle")
    return _words(citation, "PMID"), title, fields, assembly


def _jats(article: Element) -> tuple[str, str, dict[str, object], Assembly]:
    """Structure: JATS 1.3; a `<sec>` becomes a section, a nested one `Methods > Sampling`."""
    meta = _first(article, "front/article-meta", "front-stub", "front")
    ids = {one_line(part.get("pub-id-type", "")): _inline(part) for part in meta.iterfind("article-id")}
    fields: dict[str, object] = {
        "pmid": ids.get("pmid"),
        "pmcid": ids.get("pmcid") or ids.get("pmc"),
        "doi": ids.get("doi"),
        "publisher_id": ids.get("publisher-id"),
        "journal": _words(article, "front/journal-meta//journal-title"),
        "year": _year(meta, "pub-date"),
        "keywords": [_inline(word) for word in meta.iterfind("kwd-group/kwd")],
    }
    assembly = Assembly()
    for abstract in meta.iterfind("abstract"):
        if abstract.get("abstract-type") not in _SHOWN_ELSEWHERE:
            assembly.begin("Abstract")
            _section(abstract, "Abstract", assembly)
    for body in article.iterfind("body"):
        assembly.begin()
        _section(body, "", assembly)
    doc_id = next(
        (str(fields[name]) for name in ("pmcid", "pmid", "doi", "publisher_id") if fields[name]), ""
    )
    return doc_id, _words(meta, "title-group/article-title"), fields, assembly


def _section(element: Element, path: str, assembly: Assembly) -> None:
    """Blocks and sub-sections in order; a section's title is its first line (an abstract's goes unsaid)."""
    resumed = False
    for child in element:
        if child.tag == "sec":
            title = _words(child, "title")
            below = " > ".join(part for part in (path, title) if part)
            assembly.begin(below)
            assembly.add(title)
            _section(child, below, assembly)
            resumed = True
        elif child.tag != "title":
            if resumed:  # text after a sub-section belongs to this section again
                assembly.begin(path)
                resumed = False
            _blocks(child, assembly)


def _blocks(element: Element, assembly: Assembly) -> None:
    if element.tag in _UNREAD:
        return
    if element.tag == "tr":
        assembly.add("\t".join(_inline(cell) for cell in element))
    elif element.tag in _LEAVES or len(element) == 0:
        assembly.add(_inline(element))
    else:
        for child in element:
            _blocks(child, assembly)


# --- text of elements -------------------------------------------------------------------------------------


def _inline(element: Element) -> str:
    """All words of an element in one line; a child that is no inline markup stands apart."""
    return one_line("".join(_texts(element)))


def _texts(element: Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if child.tag not in _UNREAD:
            gap = "" if child.tag in _INLINE else " "
            yield gap
            yield from _texts(child)
            yield gap
        yield child.tail or ""


def _first(element: Element, *paths: str) -> Element:
    """The first of several elements that is there; else the element itself."""
    found = (element.find(path) for path in paths)
    return next((part for part in found if part is not None), element)


def _words(element: Element, path: str) -> str:
    found = element.find(path)
    return _inline(found) if found is not None else ""


def _year(element: Element, *paths: str) -> int | None:
    for path in paths:
        for dated in element.iterfind(path):
            if found := _YEAR.search(
                _words(dated, "Year") or _words(dated, "year") or _words(dated, "MedlineDate")
            ):
                return int(found[0])
    return None
