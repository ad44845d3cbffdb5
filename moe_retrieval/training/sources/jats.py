"""Articles with references and brackets from XML on disk: full texts of PMC (JATS), records of PubMed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.corpus.sources import Limits, SourceFile, open_regular
from moe_retrieval.corpus.walking import Found, is_folder, walk
from moe_retrieval.corpus.xml_elements import first, inline, words
from moe_retrieval.errors import RejectedError, UsageError
from moe_retrieval.training.sources.brackets import cited_together
from moe_retrieval.training.sources.citations import Article, Reference
from moe_retrieval.training.sources.medline import record_of
from moe_retrieval.training.sources.xml_records import iso_date, paper_id, records
from moe_retrieval.types import Rejected, slug

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from xml.etree.ElementTree import Element

_SUFFIXES = (".xml", ".nxml")
_HEAD = 4_096
_SHOWN_ELSEWHERE = frozenset({"graphical", "toc", "teaser", "key-points", "short"})
_CITATIONS = ("element-citation", "mixed-citation", "nlm-citation", "citation")
_DATES = ("epub", "pub", "electronic", "ppub", "collection")
_NO_DOMAIN = "the folder's name gives no domain name; rename it, or give the domain"


def read_jats_articles(
    paths: Sequence[Path], *, domain: str = "", limits: Limits | None = None
) -> Iterator[Article | Rejected]:
    """The articles of files and folders, in a fixed order; one without title or known references is rejected.

    Files are JATS articles, sets of them as PMC gives out, and sets of PubMed records. `domain`: of all
    articles; without it the name of the folder that a file lies in. References are named by PubMed, PMC or
    DOI, whichever comes first, and one without a title is left out. PubMed's records hold no titles of what
    they cite: theirs are known where the cited record lies in one of the files, too (they are then read
    twice). One record is in memory at a time.

    Raises:
        UsageError: a path is missing or no XML, or the domain means nothing.
    """
    if domain and not slug(domain):
        raise UsageError(f"{domain!r} gives no domain name", hint="use letters, digits and hyphens")
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} is not there", hint="give XML files, or folders of them")
        if not is_folder(path) and path.suffix.lower() not in _SUFFIXES:
            raise UsageError(f"{path} is no XML file", hint="files end in .xml or .nxml")
    return _articles(paths, slug(domain), limits or Limits())


def _articles(paths: Sequence[Path], domain: str, limits: Limits) -> Iterator[Article | Rejected]:
    with closing(_Titles()) as titles:
        for item in _walked(paths):
            if isinstance(item, Path) and _is_pubmed(item):
                titles.add(item, limits)
        for item in _walked(paths):
            if isinstance(item, Rejected):
                yield item
            elif not (named := domain or slug(item.parent.name)):
                yield Rejected(item.as_posix(), _NO_DOMAIN)
            else:
                yield from _of_file(item, named, titles, limits)


def _walked(paths: Sequence[Path]) -> Iterator[Path | Rejected]:
    seen: set[str] = set()
    for path in paths:
        for item in walk(path, layout=False, seen=seen):
            if isinstance(item, Rejected):
                yield item
            elif isinstance(item, Found) and item.path.suffix.lower() in _SUFFIXES:
                yield item.path


def _of_file(path: Path, domain: str, titles: _Titles, limits: Limits) -> Iterator[Article | Rejected]:
    source, nothing = path.as_posix(), True
    try:
        for number, element in enumerate(_records(path, limits), start=1):
            nothing = False
            article = _article(element, domain, titles, fallback=f"{path.name}#{number}")
            reason = _reason(article)
            yield Rejected(source, f"{article.id}: {reason}") if reason else article
    except RejectedError as error:
        yield Rejected(source, error.message)
    except OSError as error:
        yield Rejected(source, f"cannot be read: {error.strerror or error}")
    else:
        if nothing:
            yield Rejected(source, "no articles in it")


def _records(path: Path, limits: Limits) -> Iterator[Element]:
    stream, size = open_regular(path)
    with stream:
        for element in records(SourceFile(path.as_posix(), path.name, stream, size), limits):
            if element.tag in ("article", "PubmedArticle"):
                yield element


def _reason(article: Article) -> str:
    if not article.title:
        return "no title"
    return "" if article.references else "no references whose titles are known"


def _article(element: Element, domain: str, titles: _Titles, *, fallback: str) -> Article:
    if element.tag == "article":
        return _jats(element, domain, fallback)
    record = record_of(element, domain=domain)
    return replace(record.article, references=titles.of(record.cited))


# --- JATS -------------------------------------------------------------------------------------------------


def _jats(element: Element, domain: str, fallback: str) -> Article:
    """Structure: JATS 1.3."""
    meta = first(element, "front/article-meta", "front-stub", "front")
    ids = {part.get("pub-id-type", ""): inline(part) for part in meta.iterfind("article-id")}
    title = words(meta, "title-group/article-title")
    lists = [(ref.get("id", ""), _references(ref)) for ref in element.iter("ref")]
    known = dict.fromkeys(reference.id for _, refs in lists for reference in refs)
    unique = {reference.id: reference for _, refs in reversed(lists) for reference in reversed(refs)}
    return Article(
        id=paper_id(ids, title) if ids or title else fallback,
        title=title,
        abstract=" ".join(_abstract(meta)),
        domain=domain,
        references=tuple(unique[name] for name in known),
        brackets=tuple(_brackets(element, lists)),
        date=_date(meta),
        pmid=ids.get("pmid", ""),
    )


def _abstract(meta: Element) -> Iterator[str]:
    """A part with a title as `Aim: to know`, as PubMed shows it."""
    for abstract in meta.iterfind("abstract"):
        if abstract.get("abstract-type") in _SHOWN_ELSEWHERE:
            continue
        for part in abstract:
            title = words(part, "title")
            text = " ".join(filter(None, (inline(child) for child in part if child.tag != "title")))
            if part.tag == "sec" and text:
                yield f"{title.rstrip('.:')}: {text}" if title else text
            elif part.tag not in ("sec", "title") and inline(part):
                yield inline(part)


def _references(ref: Element) -> tuple[Reference, ...]:
    """Those of one entry of the list, which may hold several papers, and one paper in two forms."""
    parts = [first(part, *_CITATIONS) if part.tag == "citation-alternatives" else part for part in ref]
    found = (_reference(part) for part in parts if part.tag in _CITATIONS)
    return tuple(reference for reference in found if reference.title)


def _reference(citation: Element) -> Reference:
    title = words(citation, ".//article-title").rstrip(" .")
    ids = {part.get("pub-id-type", ""): inline(part) for part in citation.iter("pub-id")}
    return Reference(paper_id(ids, title), title)


def _brackets(
    element: Element, lists: Sequence[tuple[str, tuple[Reference, ...]]]
) -> Iterator[tuple[str, ...]]:
    """References cited together; an entry of the list without a title keeps its place and names nothing."""
    places = {name: place for place, (name, _) in enumerate(lists) if name}
    for body in element.iterfind("body"):
        for group in cited_together(body, places):
            together = dict.fromkeys(reference.id for place in group for reference in lists[place][1])
            if len(together) > 1:
                yield tuple(together)


def _date(meta: Element) -> str:
    """Online before print; the types are those of JATS 1.0 (`pub-type`) and since (`date-type`, format)."""
    said: dict[str, str] = {}
    for dated in meta.iterfind("pub-date"):
        names = (dated.get(name, "") for name in ("pub-type", "publication-format", "date-type"))
        said.setdefault(next(filter(None, names), ""), iso_date(dated))
    ordered = [said.get(name, "") for name in _DATES] + list(said.values())
    return next(filter(None, ordered), "")


# --- PubMed -----------------------------------------------------------------------------------------------


def _is_pubmed(path: Path) -> bool:
    try:
        stream, _ = open_regular(path)
    except (OSError, RejectedError):
        return False  # the reading will say why
    with stream:
        return b"<PubmedArticle" in stream.read(_HEAD)


class _Titles:
    """Titles and abstracts of PubMed records by number, on disk for as long as it is open."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", check_same_thread=False)
        self._rows.execute(
            "CREATE TABLE papers (pmid TEXT PRIMARY KEY, title TEXT, abstract TEXT) WITHOUT ROWID"
        )

    def close(self) -> None:
        self._rows.close()

    def add(self, path: Path, limits: Limits) -> None:
        """The records of a file, as far as it can be read; the second reading says what was wrong."""
        found = (record_of(element, domain="").article for element in _records(path, limits))
        rows = ((one.pmid, one.title, one.abstract) for one in found if one.title)
        try:
            self._rows.executemany("INSERT OR IGNORE INTO papers VALUES (?, ?, ?)", rows)
        except (RejectedError, OSError):
            return

    def of(self, cited: Sequence[str]) -> tuple[Reference, ...]:
        """Those that are known, in their order."""
        asked = "SELECT title, abstract FROM papers WHERE pmid = ?"
        found = ((pmid, self._rows.execute(asked, (pmid,)).fetchone()) for pmid in cited)
        return tuple(Reference(f"pmid:{pmid}", *row) for pmid, row in found if row)
