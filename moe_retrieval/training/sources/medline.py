"""One record of PubMed: the paper, and what it cites by PubMed's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.corpus.assembly import one_line
from moe_retrieval.corpus.xml_elements import first, inline, words
from moe_retrieval.training.sources.citations import Article, Reference
from moe_retrieval.training.sources.xml_records import iso_date

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

_CITED = (
    "PubmedData//ReferenceList/Reference/ArticleIdList/ArticleId[@IdType='pubmed']",
    "MedlineCitation/CommentsCorrectionsList/CommentsCorrections[@RefType='Cites']/PMID",
)
_DATES = ("Article/ArticleDate", "Article/Journal/JournalIssue/PubDate")


@dataclass(frozen=True, slots=True)
class Record:
    """A paper without its references, and the PubMed ids of those, each once, in its order."""

    article: Article
    cited: tuple[str, ...]

    @property
    def reference(self) -> Reference:
        """The paper as another one cites it."""
        return Reference(self.article.id, self.article.title, self.article.abstract)


def record_of(element: Element, *, domain: str) -> Record:
    """The record of a `<PubmedArticle>` (PubMed DTD); title and abstract may be empty.

    Records of PubMed hold their references as numbers and loose citations, without titles of their own.
    """
    citation = first(element, "MedlineCitation")
    pmid = words(citation, "PMID")
    article = Article(
        id=f"pmid:{pmid}",
        title=words(citation, "Article/ArticleTitle"),
        abstract=" ".join(_abstract(citation)),
        domain=domain,
        references=(),
        date=next((date for date in _dates(citation) if date), ""),
        pmid=pmid,
    )
    found = (one_line(part.text or "") for path in _CITED for part in element.iterfind(path))
    return Record(article, tuple(dict.fromkeys(one for one in found if one.isdecimal() and one != pmid)))


def _abstract(citation: Element) -> Iterator[str]:
    for part in citation.iterfind("Article/Abstract/AbstractText"):
        label, text = one_line(part.get("Label", "")).capitalize(), inline(part)
        if text:
            yield f"{label}: {text}" if label else text


def _dates(citation: Element) -> Iterator[str]:
    for path in _DATES:
        for dated in citation.iterfind(path):
            yield iso_date(dated)
