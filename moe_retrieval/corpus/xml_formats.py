"""XML of the biomedical literature: JATS articles (PMC) and PubMed records."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from moe_retrieval.corpus.assembly import Assembly, one_line
from moe_retrieval.corpus.records import metadata_of
from moe_retrieval.corpus.sources import short
from moe_retrieval.corpus.xml_elements import UNREAD, elements, first, inline, words
from moe_retrieval.errors import RejectedError
from moe_retrieval.types import Document, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from moe_retrieval.corpus.sources import Limits, SourceFile

    Items = Iterator[Document | Rejected]

_LEAVES = frozenset({"p", "title", "tr", "disp-formula", "verse-line", "def", "term", "preformat", "label"})
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
        for number, (element, alone) in enumerate(elements(file, limits), start=1):
            fallback = file.name if alone else f"row-{number}"
            yield _document(element, source=file.source, name=file.name if alone else "", fallback=fallback)
    except EntitiesForbidden as error:
        raise RejectedError("declares XML entities, which are not read") from error
    except DefusedXmlException as error:
        raise RejectedError("refers to something outside of the file") from error
    except (ParseError, ValueError, LookupError) as error:
        place = f" after {number} records" if number else ""
        raise RejectedError(f"not well-formed XML{place} ({short(error)})") from error


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
    citation = first(record, "MedlineCitation", "BookDocument")
    assembly = Assembly()
    for part in citation.iterfind(".//Abstract/AbstractText"):
        label = one_line(part.get("Label", "")).capitalize()
        assembly.begin(label)
        body = inline(part)
        assembly.add(f"{label}\n{body}" if label and body else body)
    fields: dict[str, object] = {
        "pmid": words(citation, "PMID"),
        "doi": words(record, "PubmedData/ArticleIdList/ArticleId[@IdType='doi']")
        or words(citation, ".//ELocationID[@EIdType='doi']"),
        "journal": words(citation, ".//Journal/Title"),
        "year": _year(citation, ".//JournalIssue/PubDate", ".//PubDate", ".//ArticleDate"),
        "mesh": [inline(term) for term in citation.iterfind("MeshHeadingList/MeshHeading/DescriptorName")],
    }
    title = words(citation, ".//ArticleTitle") or words(citation, ".//BookTitle")
    return words(citation, "PMID"), title, fields, assembly


def _jats(article: Element) -> tuple[str, str, dict[str, object], Assembly]:
    """Structure: JATS 1.3; a `<sec>` becomes a section, a nested one `Methods > Sampling`."""
    meta = first(article, "front/article-meta", "front-stub", "front")
    ids = {one_line(part.get("pub-id-type", "")): inline(part) for part in meta.iterfind("article-id")}
    fields: dict[str, object] = {
        "pmid": ids.get("pmid"),
        "pmcid": ids.get("pmcid") or ids.get("pmc"),
        "doi": ids.get("doi"),
        "publisher_id": ids.get("publisher-id"),
        "journal": words(article, "front/journal-meta//journal-title"),
        "year": _year(meta, "pub-date"),
        "keywords": [inline(word) for word in meta.iterfind("kwd-group/kwd")],
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
    return doc_id, words(meta, "title-group/article-title"), fields, assembly


def _section(element: Element, path: str, assembly: Assembly) -> None:
    """Blocks and sub-sections in order; a section's title is its first line (an abstract's goes unsaid)."""
    resumed = False
    for child in element:
        if child.tag == "sec":
            title = words(child, "title")
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
    if element.tag in UNREAD:
        return
    if element.tag == "tr":
        assembly.add("\t".join(inline(cell) for cell in element))
    elif element.tag in _LEAVES or len(element) == 0:
        assembly.add(inline(element))
    else:
        for child in element:
            _blocks(child, assembly)


def _year(element: Element, *paths: str) -> int | None:
    for path in paths:
        for dated in element.iterfind(path):
            if found := _YEAR.search(
                words(dated, "Year") or words(dated, "year") or words(dated, "MedlineDate")
            ):
                return int(found[0])
    return None
