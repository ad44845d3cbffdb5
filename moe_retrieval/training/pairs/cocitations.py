"""Pairs from citations: an article and a title it cites, two papers that are cited together (Small, 1973)."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import combinations
from typing import TYPE_CHECKING, Any

from moe_retrieval.corpus.pairs import Pair
from moe_retrieval.errors import UsageError
from moe_retrieval.training.pairs.texts import folded, joined
from moe_retrieval.training.pairs.unrelated import with_negatives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from moe_retrieval.training.sources.citations import Article


class PairKind(StrEnum):
    """How two papers of a citation file come together."""

    CITED_TITLE = "cited-title"
    SAME_BRACKET = "same-bracket"
    CO_CITED = "co-cited"


@dataclass(frozen=True, slots=True)
class CitationOptions:
    """`min_cocitations`: in how many articles two references must be cited, for a pair of theirs to count;
    `hub_cap`: in how many pairs of one kind a reference takes part at most; `negatives`: pairs labelled 0 per
    positive one, of one domain and never cited together.
    """

    kinds: tuple[PairKind, ...] = (PairKind.CITED_TITLE, PairKind.SAME_BRACKET)
    min_cocitations: int = 1
    hub_cap: int = 20
    negatives: int = 0
    include_held_out: bool = False

    def __post_init__(self) -> None:
        if self.min_cocitations < 1 or self.hub_cap < 1 or self.negatives < 0:
            raise UsageError(
                "co-citation count and hub cap start at 1, negatives at 0",
                hint="leave them out for the defaults: 1, 20 and 0",
            )
        if not self.kinds:
            raise UsageError("no kind of pair is asked for", hint=f"kinds: {', '.join(PairKind)}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"kinds": [str(kind) for kind in self.kinds]}


@dataclass(frozen=True, slots=True)
class CitationPairs:
    """Pairs of a citation file; `groups`: for each pair the article that it is from, which is what splits
    are cut along; `dropped`: how many were left out, by reason.
    """

    pairs: tuple[Pair, ...]
    dropped: Mapping[str, int]
    groups: tuple[str, ...]
    graph: Cocitations


class Cocitations:
    """Who cites whom, over all articles; an article of the file goes by its own id where it is cited."""

    def __init__(self, articles: Sequence[Article]) -> None:
        self._names = {f"pmid:{one.pmid}": one.id for one in articles if one.pmid}
        self._cited_in: dict[str, set[int]] = {}
        self._papers: dict[str, tuple[str, str]] = {}
        for number, article in enumerate(articles):
            self._learn(number, article.id, article.title, article.abstract)
            for one in article.references:
                self._learn(number, self.name(one.id), one.title, one.abstract)

    def _learn(self, number: int, name: str, title: str, abstract: str) -> None:
        self._cited_in.setdefault(name, set()).add(number)
        known = self._papers.get(name, ("", ""))
        if not all(known):
            self._papers[name] = (known[0] or title, known[1] or abstract)

    def name(self, reference: str) -> str:
        """The id that a reference goes by."""
        return self._names.get(reference, reference)

    def title(self, name: str) -> str:
        return self._papers[name][0]

    def abstract(self, name: str) -> str:
        return self._papers[name][1]

    def together(self, one: str, other: str) -> bool:
        """Whether an article cites both, or one of them cites the other. Unknown papers: no."""
        nowhere: set[int] = set()
        return not self._cited_in.get(one, nowhere).isdisjoint(self._cited_in.get(other, nowhere))

    def count(self, one: str, other: str, *, without: AbstractSet[int]) -> int:
        """In how many articles both are cited; articles are numbered by their place in the file."""
        return len((self._cited_in[one] & self._cited_in[other]) - without)


def citation_pairs(
    articles: Iterable[Article],
    *,
    options: CitationOptions | None = None,
    seed: int,
    excluded: AbstractSet[str] = frozenset(),
) -> CitationPairs:
    """Pairs of each article's citations; the same seed gives the same pairs in the same order.

    `excluded`: ids of documents that no pair may touch. Articles that are held out give no pairs and appear
    in none, unless the options include them.
    """
    all_articles = tuple(articles)
    options = options or CitationOptions()
    work = _Work(Cocitations(all_articles), options, seed=seed)
    used = work.usable(all_articles, excluded=excluded)
    for kind in options.kinds:
        work.take(kind, _CANDIDATES[kind](work, used))
    pairs, groups = tuple(work.pairs), tuple(work.groups)
    if options.negatives:
        pairs, groups, missing = with_negatives(
            pairs, groups, per_positive=options.negatives, together=work.graph.together, seed=seed
        )
        work.dropped["no negative found"] += missing
    return CitationPairs(pairs, {name: n for name, n in work.dropped.items() if n}, groups, work.graph)


@dataclass(frozen=True, slots=True)
class _Candidate:
    article: Article
    one: str
    other: str


@dataclass(slots=True)
class _Work:
    """What one call gathers: pairs and their groups, and what was left out."""

    graph: Cocitations
    options: CitationOptions
    seed: int
    pairs: list[Pair] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    unused: set[int] = field(default_factory=set)
    barred: set[str] = field(default_factory=set)
    allowed: dict[str, list[str]] = field(default_factory=dict)

    def usable(self, articles: Sequence[Article], *, excluded: AbstractSet[str]) -> list[Article]:
        """Articles that may give pairs; what no pair may touch is remembered."""
        self.barred = {self.graph.name(name) for name in excluded}
        self.barred |= {one.id for one in articles if one.held_out and not self.options.include_held_out}
        used = []
        for number, one in enumerate(articles):
            if one.id not in self.barred:
                used.append(one)
                self.allowed[one.id] = self._allowed(one)
                continue
            self.unused.add(number)
            self.dropped["articles held out" if one.held_out else "articles excluded"] += 1
        return used

    def _allowed(self, article: Article) -> list[str]:
        """What the article cites and pairs may touch, each once."""
        names = dict.fromkeys(self.graph.name(one.id) for one in article.references)
        names.pop(article.id, None)
        allowed = [name for name in names if name not in self.barred]
        self.dropped["references excluded"] += len(names) - len(allowed)
        return allowed

    def take(self, kind: PairKind, candidates: Iterable[_Candidate]) -> None:
        """Turn candidates into pairs, as far as counts and caps allow; order stays that of the file."""
        fit = self._once(kind, candidates)
        order = list(range(len(fit)))
        random.Random(f"{self.seed} cap {kind}").shuffle(order)  # noqa: S311 - a sample, no secret
        uses: Counter[str] = Counter()
        kept = set()
        for place in order:
            capped = _capped(kind, fit[place])
            if any(uses[name] >= self.options.hub_cap for name in capped):
                self.dropped["over the hub cap"] += 1
                continue
            uses.update(capped)
            kept.add(place)
        turns = random.Random(f"{self.seed} turn {kind}")  # noqa: S311
        for place in sorted(kept):
            self._add(kind, fit[place], turned=turns.random() < 0.5)

    def _once(self, kind: PairKind, candidates: Iterable[_Candidate]) -> list[_Candidate]:
        seen: set[tuple[str, str]] = set()
        fit = []
        for one in candidates:
            key = (one.one, one.other) if one.one < one.other else (one.other, one.one)
            if key in seen:
                self.dropped["stands twice"] += 1
            elif kind is not PairKind.CITED_TITLE and not self._often(one):
                self.dropped["cited together too seldom"] += 1
            elif reason := _no_pair(*self._texts(kind, one)):
                self.dropped[reason] += 1
            else:
                fit.append(one)
            seen.add(key)
        return fit

    def _often(self, one: _Candidate) -> bool:
        least = self.options.min_cocitations
        return least == 1 or self.graph.count(one.one, one.other, without=self.unused) >= least

    def _texts(self, kind: PairKind, one: _Candidate) -> tuple[str, str]:
        graph = self.graph
        if kind is PairKind.CITED_TITLE:
            return joined(one.article.title, one.article.abstract), graph.title(one.other).strip()
        if kind is PairKind.SAME_BRACKET:
            return graph.title(one.one).strip(), graph.title(one.other).strip()
        return self._paper(one.one), self._paper(one.other)

    def _paper(self, name: str) -> str:
        return joined(self.graph.title(name), self.graph.abstract(name))

    def _add(self, kind: PairKind, one: _Candidate, *, turned: bool) -> None:
        sides = list(zip(self._texts(kind, one), (one.one, one.other), strict=True))
        if turned and kind is not PairKind.CITED_TITLE:  # neither side of these is the query
            sides.reverse()
        (a, a_id), (b, b_id) = sides
        article = one.article
        self.pairs.append(Pair(a, b, article.domain, kind=str(kind), a_id=a_id, b_id=b_id, date=article.date))
        self.groups.append(article.id)


def _cited_titles(work: _Work, articles: Sequence[Article]) -> Iterator[_Candidate]:
    for article in articles:
        for name in work.allowed[article.id]:
            yield _Candidate(article, article.id, name)


def _same_bracket(work: _Work, articles: Sequence[Article]) -> Iterator[_Candidate]:
    for article in articles:
        allowed = set(work.allowed[article.id])
        cited = {one.id for one in article.references}
        for bracket in article.brackets:
            work.dropped["dangling bracket ids"] += sum(name not in cited for name in bracket)
            names = dict.fromkeys(work.graph.name(name) for name in bracket if name in cited)
            for one, other in combinations([name for name in names if name in allowed], 2):
                yield _Candidate(article, one, other)


def _co_cited(work: _Work, articles: Sequence[Article]) -> Iterator[_Candidate]:
    for article in articles:
        known = [name for name in work.allowed[article.id] if work.graph.abstract(name).strip()]
        for one, other in combinations(known, 2):
            yield _Candidate(article, one, other)


_CANDIDATES: dict[PairKind, Callable[[_Work, Sequence[Article]], Iterator[_Candidate]]] = {
    PairKind.CITED_TITLE: _cited_titles,
    PairKind.SAME_BRACKET: _same_bracket,
    PairKind.CO_CITED: _co_cited,
}


def _capped(kind: PairKind, one: _Candidate) -> tuple[str, ...]:
    """The references that a pair counts for; a citing article has no cap."""
    return (one.other,) if kind is PairKind.CITED_TITLE else (one.one, one.other)


def _no_pair(a: str, b: str) -> str:
    if not a.strip() or not b.strip():
        return "a text is empty"
    return "both texts are the same" if folded(a) == folded(b) else ""
