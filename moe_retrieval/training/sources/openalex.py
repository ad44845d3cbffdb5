"""Articles of OpenAlex: works of a search, with what they cite (pyalex; developers.openalex.org)."""

from __future__ import annotations

import importlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import Request

from moe_retrieval.corpus.assembly import one_line
from moe_retrieval.errors import FetchError, MissingExtraError
from moe_retrieval.training.sources.citations import Article, Reference
from moe_retrieval.training.sources.fetching import Draft, Listing, fetch, search_of
from moe_retrieval.training.sources.polite import Polite, base_of
from moe_retrieval.training.sources.xml_records import paper_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from moe_retrieval.training.sources.fetching import Progress

SERVICE = "OpenAlex"
KEY = "OPENALEX_API_KEY"
PER_SECOND = 10.0  # a tenth of what it allows
PAGE = 50  # works per listing: what a killed run may lose
MOST_PAGED = 10_000  # works that can be listed by page number

_HOME = "https://api.openalex.org"
_MARKUP = re.compile(r"</?(?:i|b|em|strong|u|sub|sup|scp|italic|bold|jats:[a-z-]+)\s*/?>", re.IGNORECASE)
_FIELDS = ["id", "ids", "title", "abstract_inverted_index", "publication_date", "referenced_works"]
_CITED_FIELDS = ["id", "ids", "title", "abstract_inverted_index"]


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
    """`folder/articles.jsonl`: at most `limit` works with abstract and references that a search finds.

    OpenAlex knows no brackets. The same call goes on where a killed one was. `email` is told to the service;
    `api_key`: by default that of the environment, OPENALEX_API_KEY; a key is free, and without one little is
    given per day and no more than 10,000 works are listed. `base_url`: another server that speaks the same.

    Raises:
        MissingExtraError: pyalex is not installed.
        UsageError, NothingFoundError, FetchError, MoeretError: see `fetch` in fetching.py.
    """
    search = search_of(SERVICE, query, domain=domain, limit=limit, years=years)
    source = _OpenAlex(
        search.query,
        domain=search.domain,
        years=years,
        base=base_of(base_url or _HOME),
        headers=_headers(email, os.environ.get(KEY, "") if api_key is None else api_key),
        door=Polite(SERVICE, PER_SECOND, clock, sleep),
    )
    return fetch(source, search, folder=folder, limit=limit, progress=progress)


def _headers(email: str, api_key: str) -> dict[str, str]:
    """Who asks, as pyalex says it: address, key; never a part of the URL, which messages may show."""
    said = {"User-Agent": "moeret" + (f" (mailto:{email})" if email else ""), "From": email}
    return {name: value for name, value in said.items() if value} | (
        {"Authorization": f"Bearer {api_key}"} if api_key else {}
    )


class _OpenAlex:
    batch = 100  # values that one filter may name

    def __init__(
        self,
        query: str,
        *,
        domain: str,
        years: tuple[int, int] | None,
        base: str,
        headers: Mapping[str, str],
        door: Polite,
    ) -> None:
        self._alex = _pyalex()
        self._query = query
        self._domain = domain
        self._years = years
        self._base = base
        self._headers = headers
        self._door = door

    def listing(self, place: str) -> Listing:
        """`place`: a cursor, or `page 3` where the fetch began without a key, which cursors need."""
        place = place or ("*" if "Authorization" in self._headers else "page 1")
        paged = place.startswith("page ")
        number = _page_number(place) if paged else 0
        works = self._alex.Works().search(self._query).filter(**self._filters()).select(_FIELDS)
        answer = self._asked(works, {"page": number} if paged else {"cursor": place}, per_page=PAGE)
        meta, found = answer["meta"], answer["results"]
        total = meta["count"]
        following = str(meta.get("next_cursor") or "")
        if paged:
            following = f"page {number + 1}" if number * PAGE < total else ""
        drafts = tuple(draft for work in found if (draft := self._draft(work)))
        return Listing(drafts, following if found else "", total)

    def references(self, names: Sequence[str]) -> dict[str, Reference]:
        works = self._alex.Works().filter_or(openalex_id=list(names)).select(_CITED_FIELDS)
        answer = self._asked(works, {}, per_page=self.batch)
        return {_name(str(work["id"])): self._paper(work) for work in answer["results"]}

    def _filters(self) -> dict[str, Any]:
        said: dict[str, Any] = {"has_abstract": True, "has_references": True, "is_retracted": False}
        if self._years:
            first, last = self._years
            said |= {"from_publication_date": f"{first}-01-01", "to_publication_date": f"{last}-12-31"}
        return said

    def _asked(self, works: Any, paging: Mapping[str, object], *, per_page: int) -> dict[str, Any]:
        """pyalex words the question; our door asks it, since pyalex knows one server and no timeout."""
        query = str(works.url).removeprefix(_HOME).replace("|", "%7C")
        paged = urlencode({"per-page": per_page, **paging})
        request = Request(f"{self._base}{query}&{paged}")  # noqa: S310 - `base_of`
        for name, value in self._headers.items():
            request.add_unredirected_header(name, value)  # a key is for this server alone
        return self._door.read(request, _answer)

    def _draft(self, work: Mapping[str, Any]) -> Draft | None:
        paper = self._paper(work)
        if not paper.title or not paper.abstract:
            return None
        article = Article(
            id=paper.id,
            title=paper.title,
            abstract=paper.abstract,
            domain=self._domain,
            references=(),
            date=str(work.get("publication_date") or ""),
            pmid=paper.id.removeprefix("pmid:") if paper.id.startswith("pmid:") else "",
        )
        return Draft(article, tuple(dict.fromkeys(map(_name, work.get("referenced_works") or ()))))

    def _paper(self, work: Mapping[str, Any]) -> Reference:
        title = one_line(unescape(_MARKUP.sub("", str(work.get("title") or ""))))
        words = work.get("abstract_inverted_index")  # the places of each word
        abstract = self._alex.invert_abstract(words) if words else ""
        return Reference(_paper_id(work, title), title, one_line(abstract))


def _page_number(place: str) -> int:
    number = int(place.removeprefix("page "))
    if number * PAGE > MOST_PAGED:
        raise FetchError(
            f"OpenAlex lists {MOST_PAGED:,} works without a key, and this search needs more",
            hint=f"set {KEY} (a key is free) and search into another folder, or ask for fewer",
        )
    return number


def _paper_id(work: Mapping[str, Any], title: str) -> str:
    """By PubMed or PMC, as other sources name it; else by OpenAlex."""
    ids = {name: _name(str(value)) for name, value in (work.get("ids") or {}).items()}
    known = {"pmid": ids.get("pmid", ""), "pmcid": ids.get("pmcid", "")}
    return paper_id(known, title) if any(known.values()) else f"openalex:{_name(str(work['id']))}"


def _name(address: str) -> str:
    """`https://openalex.org/W123`: W123."""
    return address.rstrip("/").rpartition("/")[2]


def _answer(body: bytes) -> dict[str, Any]:
    """One page of works.

    Raises:
        ValueError: it was cut on its way, or is no such page.
    """
    answer = json.loads(body)
    if not _is_page(answer):
        raise ValueError("no list of works")
    return dict(answer)


def _is_page(answer: object) -> bool:
    if not isinstance(answer, dict):
        return False
    meta, works = answer.get("meta"), answer.get("results")
    counted = isinstance(meta, dict) and isinstance(meta.get("count"), int)
    return counted and isinstance(works, list) and all(map(_is_work, works))


def _is_work(work: object) -> bool:
    return isinstance(work, dict) and isinstance(work.get("id"), str)


def _pyalex() -> Any:
    try:
        return importlib.import_module("pyalex")
    except ImportError as error:
        raise MissingExtraError("pyalex", extra="literature", purpose="a search at OpenAlex") from error
