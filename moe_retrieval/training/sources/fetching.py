"""Fetch articles of a search, page by page, into a file that a killed run goes on with."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from moe_retrieval.errors import MoeretError, NothingFoundError, UsageError
from moe_retrieval.training.sources.citations import Article, Reference, read_articles, write_articles
from moe_retrieval.types import slug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Progress = Callable[[int, int], None]

ARTICLES = "articles.jsonl"
STATE = "fetch.json"

REMEMBERED = 20_000  # references whose titles and abstracts are kept: neighbours of a field cite the same

_OTHER_FOLDER = "choose another folder, or empty this one"


@dataclass(frozen=True, slots=True)
class Search:
    """What is asked of a service; `years`: first and last year of publication."""

    service: str
    query: str
    domain: str
    years: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"years": list(self.years) if self.years else None}


@dataclass(frozen=True, slots=True)
class Draft:
    """An article without its references, and what the service calls those."""

    article: Article
    cited: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of what a service found: `following` is where the next one begins, empty after the last."""

    drafts: tuple[Draft, ...]
    following: str
    total: int


class Source(Protocol):
    """One search at one service."""

    batch: int
    """References asked for at once."""

    def listing(self, place: str) -> Listing:
        """The page that begins at `place`; the first one is at the empty place."""
        ...

    def references(self, names: Sequence[str]) -> dict[str, Reference]:
        """The cited papers by what the service calls them; those that it does not know are left out."""
        ...


def search_of(service: str, query: str, *, domain: str, limit: int, years: tuple[int, int] | None) -> Search:
    """The arguments of a fetch, checked.

    Raises:
        UsageError: one of them cannot mean anything.
    """
    if not query.strip():
        raise UsageError(f"a search at {service} needs words", hint="give a query")
    if not slug(domain):
        raise UsageError("a search needs the domain that its articles are of", hint="give --domain NAME")
    if limit < 1:
        raise UsageError(f"the limit is {limit}", hint="ask for one article at least")
    if years and not 1500 <= years[0] <= years[1] <= 2999:
        raise UsageError(f"no years are {years[0]} to {years[1]}", hint="give the first and the last year")
    return Search(service, query.strip(), slug(domain), years)


def fetch(
    source: Source, search: Search, *, folder: Path, limit: int, progress: Progress | None = None
) -> Path:
    """The file of articles with references, at most `limit`; what the folder holds of this search is kept.

    `progress` is told the articles so far and those to come in all. After every page the folder is whole: a
    run that is killed loses one page, and the next one goes on there, with no article twice.

    Raises:
        NothingFoundError: the service finds nothing, or nothing with references that it knows.
        UsageError: the folder holds another search.
        FetchError: the service cannot be reached, or refuses.
        MoeretError: the folder cannot be written.
    """
    shelf = _Shelf(folder, search)
    known = _Known(source)
    found = 0
    while not shelf.done and shelf.count < limit:
        listing = source.listing(shelf.place)
        found = max(found, listing.total)
        fresh = [draft for draft in listing.drafts if draft.article.id not in shelf.seen]
        taken = fresh[: limit - shelf.count]
        whole = [article for article in known.completed(taken) if article.references]
        shelf.seen.update(draft.article.id for draft in taken)
        shelf.add(whole, place=listing.following if len(taken) == len(fresh) else shelf.place)
        if progress:
            progress(shelf.count, min(limit, listing.total))
    if not shelf.count:
        raise _nothing(search, found)
    return shelf.path


def _nothing(search: Search, found: int) -> NothingFoundError:
    asked = f"{search.query!r}" + (f" in {search.years[0]} to {search.years[1]}" if search.years else "")
    if not found:
        return NothingFoundError(
            f"{search.service} finds nothing for {asked}", hint="use fewer, or other words"
        )
    return NothingFoundError(
        f"{search.service} knows no abstract and references of what it finds for {asked} ({found:,} papers)",
        hint="use other words, or another service",
    )


class _Known:
    """Completes articles with what they cite; asks for each cited paper once while it is remembered."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._papers: OrderedDict[str, Reference | None] = OrderedDict()

    def completed(self, drafts: Sequence[Draft]) -> Iterator[Article]:
        wanted = dict.fromkeys(name for draft in drafts for name in draft.cited)
        self._learn([name for name in wanted if name not in self._papers])
        for draft in drafts:
            papers = {paper.id: paper for name in draft.cited if (paper := self._papers.get(name))}
            papers.pop(draft.article.id, None)
            yield replace(draft.article, references=tuple(papers.values()))
        while len(self._papers) > REMEMBERED:
            self._papers.popitem(last=False)

    def _learn(self, names: Sequence[str]) -> None:
        """A paper without a title, or one that the service does not know, is remembered as none."""
        for start in range(0, len(names), self._source.batch):
            batch = names[start : start + self._source.batch]
            found = self._source.references(batch)
            for name in batch:
                paper = found.get(name)
                self._papers[name] = paper if paper and paper.title else None


class _Shelf:
    """A folder with the articles so far, and a state: how much of the file is whole, and what is next."""

    def __init__(self, folder: Path, search: Search) -> None:
        self.path = folder / ARTICLES
        self._folder = folder
        self._search = search
        state = self._state()
        self.place = str(state.get("place", ""))
        self.done = bool(state.get("done"))
        self._bytes = int(state.get("bytes", 0))
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            self._cut()
            self._save()
        self.seen = {article.id for article in read_articles(self.path)}
        self.count = len(self.seen)

    def add(self, articles: Sequence[Article], *, place: str) -> None:
        """First the articles, then the state that counts them; in between a kill leaves the state before."""
        part = self._folder / f".{ARTICLES}.part"
        with self._writing():
            write_articles(part, articles)
            with self.path.open("ab") as stream:
                stream.write(part.read_bytes())
                stream.flush()
                os.fsync(stream.fileno())
                self._bytes = stream.tell()
            part.unlink()
            self.place, self.done = place, not place
            self._save()
        self.count += len(articles)

    def _save(self) -> None:
        said = {
            "search": self._search.to_dict(),
            "place": self.place,
            "bytes": self._bytes,
            "done": self.done,
        }
        fresh = self._folder / f".{STATE}.tmp"
        with fresh.open("w", encoding="utf8") as stream:
            json.dump(said | {"bytes": self._bytes}, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(self._folder / STATE)

    def _state(self) -> dict[str, Any]:
        """What the last run left; nothing where there was none, or one of another search that got nowhere."""
        path = self._folder / STATE
        if not path.exists():
            if self.path.exists() and self.path.stat().st_size:
                raise UsageError(f"{self.path} is of another origin", hint=_OTHER_FOLDER)
            return {}
        try:
            state = json.loads(path.read_text("utf8"))
            search, written = Search(**state["search"]).to_dict(), int(state["bytes"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is damaged", hint=_OTHER_FOLDER) from error
        if search == self._search.to_dict():
            return dict(state)
        if not written:
            return {}
        asked = f"{search['query']!r} at {search['service']}"
        raise UsageError(f"{self._folder} holds another search: {asked}", hint=_OTHER_FOLDER)

    def _cut(self) -> None:
        """Drop what a killed run had begun to write."""
        with self.path.open("ab") as stream:
            if stream.tell() < self._bytes:
                raise UsageError(f"{self.path} is shorter than it was left", hint=_OTHER_FOLDER)
            stream.truncate(self._bytes)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = "make room on the disk, or choose another folder; the same command goes on where it was"
            raise MoeretError(f"{self._folder} cannot be written: {error.strerror}", hint=hint) from error
