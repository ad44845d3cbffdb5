"""Articles of PubMed: records of a search, with what they cite (Biopython's Entrez; NCBI's E-utilities)."""

from __future__ import annotations

import importlib
import io
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import Request
from urllib.response import addinfourl

from moe_retrieval.corpus.sources import Limits, SourceFile
from moe_retrieval.errors import FetchError, MissingExtraError, RejectedError, UsageError
from moe_retrieval.training.sources.citations import Reference
from moe_retrieval.training.sources.fetching import Draft, Listing, fetch, search_of
from moe_retrieval.training.sources.medline import Record, record_of
from moe_retrieval.training.sources.polite import Polite, base_of
from moe_retrieval.training.sources.xml_records import records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from moe_retrieval.training.sources.fetching import Progress

T = TypeVar("T")

SERVICE = "PubMed"
KEY = "NCBI_API_KEY"
PER_SECOND = 3.0
PER_SECOND_WITH_KEY = 10.0
PAGE = 50  # records per listing: what a killed run may lose
MOST_LISTED = 9_999  # records of one search that PubMed gives out

_HOME = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils"
_TOOL = "moeret"
_LOCK = threading.Lock()


def fetch_articles(
    query: str,
    *,
    domain: str,
    folder: Path,
    limit: int = 1000,
    email: str = "",
    api_key: str | None = None,
    years: tuple[int, int] | None = None,
    base_url: str | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    progress: Progress | None = None,
) -> Path:
    """`folder/articles.jsonl`: at most `limit` records with abstract and references that a search finds.

    What a record cites is its own list of references, else PubMed's links to the papers that it cites; PubMed
    knows no brackets. The same call goes on where a killed one was. `email` is required by NCBI. `api_key`:
    by default that of the environment, NCBI_API_KEY; with one, ten requests per second are made, not three.
    `base_url`: another server that speaks the same.

    Raises:
        MissingExtraError: Biopython is not installed.
        UsageError: no e-mail address is given, or more is asked for than PubMed lists of one search.
        NothingFoundError, FetchError, MoeretError: see `moe_retrieval.training.sources.fetching.fetch`.
    """
    search = search_of(SERVICE, query, domain=domain, limit=limit, years=years)
    if "@" not in email:
        raise UsageError("a search at PubMed needs an e-mail address: NCBI asks for it", hint="give --email")
    if limit > MOST_LISTED:
        raise UsageError(
            f"PubMed lists {MOST_LISTED:,} records of a search, not {limit:,}",
            hint="search year by year, into a folder each",
        )
    key = os.environ.get(KEY, "") if api_key is None else api_key
    door = Polite(SERVICE, PER_SECOND_WITH_KEY if key else PER_SECOND, clock, sleep)
    entrez = _Entrez(base_of(base_url or _HOME), email=email, key=key, door=door)
    source = _PubMed(entrez, search.query, domain=search.domain, years=years)
    return fetch(source, search, folder=folder, limit=limit, progress=progress)


class _PubMed:
    batch = 200  # PubMed asks for lists of more to be sent otherwise

    def __init__(self, entrez: _Entrez, query: str, *, domain: str, years: tuple[int, int] | None) -> None:
        self._entrez = entrez
        self._query = query
        self._domain = domain
        self._years = years
        self._history: _History | None = None

    def listing(self, place: str) -> Listing:
        """`place`: how many records of the search come before."""
        start = int(place or 0)
        history = self._history = self._history or self._searched()
        found = self._fetched(history.window(start)) if start < history.total else []
        end = start + PAGE
        following = str(end) if end < min(history.total, MOST_LISTED) else ""
        return Listing(tuple(self._drafts(found)), following, history.total)

    def references(self, names: Sequence[str]) -> dict[str, Reference]:
        return {record.article.pmid: record.reference for record in self._fetched({"id": ",".join(names)})}

    def _searched(self) -> _History:
        options: dict[str, object] = {"usehistory": "y", "retmax": 0, "retmode": "json"}
        if self._years:
            options |= {"datetype": "pdat", "mindate": self._years[0], "maxdate": self._years[1]}
        term = f"({self._query}) AND hasabstract"
        return self._entrez.ask("esearch", _history_of, db="pubmed", term=term, **options)

    def _fetched(self, which: dict[str, object]) -> list[Record]:
        def parsed(body: bytes) -> list[Record]:
            return _records_of(body, domain=self._domain)

        return self._entrez.ask("efetch", parsed, db="pubmed", retmode="xml", **which)

    def _drafts(self, found: Sequence[Record]) -> Iterator[Draft]:
        usable = [record for record in found if record.article.title and record.article.abstract]
        bare = [record.article.pmid for record in usable if not record.cited]
        linked = self._linked(bare) if bare else {}
        for record in usable:
            yield Draft(record.article, record.cited or linked.get(record.article.pmid, ()))

    def _linked(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        return self._entrez.ask(
            "elink", _links_of, dbfrom="pubmed", db="pubmed", linkname="pubmed_pubmed_refs", id=list(names)
        )


@dataclass(frozen=True, slots=True)
class _History:
    """A search that the server remembers."""

    web: str
    key: str
    total: int

    def window(self, start: int) -> dict[str, object]:
        most = min(PAGE, MOST_LISTED - start)
        return {"WebEnv": self.web, "query_key": self.key, "retstart": start, "retmax": most}


class _Entrez:
    """Biopython words the questions; they go through our door, which knows timeouts and Retry-After."""

    def __init__(self, base: str, *, email: str, key: str, door: Polite) -> None:
        self._entrez = _biopython()
        self._base = base
        self._who = {"tool": _TOOL, "email": email} | ({"api_key": key} if key else {})
        self._door = door

    def ask(self, utility: str, parse: Callable[[bytes], T], **options: object) -> T:
        answers: list[T] = []

        def opened(request: Request) -> addinfourl:
            answers.append(self._door.read(self._here(request), parse))
            return addinfourl(io.BytesIO(), Message(), request.full_url)

        with _opening(self._entrez, opened):
            getattr(self._entrez, utility)(**self._who, **options).close()
        return answers[0]

    def _here(self, request: Request) -> Request:
        asked = urlsplit(request.full_url)
        name = asked.path.rpartition("/")[2]
        url = f"{self._base}/{name}" + (f"?{asked.query}" if asked.query else "")
        return Request(url, data=request.data, method=request.get_method())  # noqa: S310 - `base_of`


@contextmanager
def _opening(entrez: Any, opened: Callable[[Request], addinfourl]) -> Iterator[None]:
    """Biopython has no setting for another server: for one call, `opened` stands in for its urlopen."""
    with _LOCK:
        own, entrez.urlopen = entrez.urlopen, opened
        try:
            yield
        finally:
            entrez.urlopen = own


# --- answers ----------------------------------------------------------------------------------------------


def _history_of(body: bytes) -> _History:
    """What esearch answers (JSON).

    Raises:
        ValueError: it was cut on its way.
        FetchError: PubMed cannot make sense of the query.
    """
    answer = json.loads(body)
    found = answer.get("esearchresult") if isinstance(answer, dict) else None
    found = found if isinstance(found, dict) else {}
    if said := found.get("ERROR"):
        raise FetchError(f"PubMed refuses the search: {said}", hint="check the query")
    if not all(found.get(name) for name in ("webenv", "querykey", "count")):
        raise ValueError("no result of a search")
    return _History(str(found["webenv"]), str(found["querykey"]), int(found["count"]))


def _records_of(body: bytes, *, domain: str) -> list[Record]:
    """What efetch answers (XML, a PubmedArticleSet).

    Raises:
        ValueError: it was cut on its way.
    """
    file = SourceFile(SERVICE, SERVICE, io.BytesIO(body), len(body))
    try:
        return [  # each element is read before the next empties it
            record_of(element, domain=domain)
            for element in records(file, Limits())
            if element.tag == "PubmedArticle"
        ]
    except RejectedError as error:
        raise ValueError(error.message) from error


def _links_of(body: bytes) -> dict[str, tuple[str, ...]]:
    """What elink answers (XML), one set of links per paper that was asked about.

    Raises:
        ValueError: it was cut on its way.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root = fromstring(body)
    except (ParseError, DefusedXmlException) as error:
        raise ValueError("no links") from error
    return {
        one.findtext("IdList/Id", ""): tuple(link.text or "" for link in one.iterfind("LinkSetDb/Link/Id"))
        for one in root.iterfind("LinkSet")
    }


def _biopython() -> Any:
    try:
        return importlib.import_module("Bio.Entrez")
    except ImportError as error:
        raise MissingExtraError("biopython", extra="literature", purpose="a search at PubMed") from error
