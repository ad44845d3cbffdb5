"""Where pairs come from: look at a source, and read its pairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_retrieval.corpus.pairs import read_pairs
from moe_retrieval.errors import UsageError, did_you_mean
from moe_retrieval.training.pairs.build import BuildOptions, build_pairs, check_output
from moe_retrieval.training.pairs.exclusion import read_excluded
from moe_retrieval.training.pairs.filtering import PairSource
from moe_retrieval.training.sources.citations import (
    Article,
    CitationOptions,
    PairKind,
    citation_pairs,
    read_articles,
)
from moe_retrieval.training.sources.judged import judged_pairs
from moe_retrieval.training.sources.kinds import SPLIT_FILES, SourceKind, kind_of
from moe_retrieval.types import Document, Rejected, slug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from moe_retrieval.corpus.pairs import Pair
    from moe_retrieval.training.pairs.report import PairsReport


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are read. `kinds`: of pairs, as the source has them; none: its default. `domain`: of every
    pair. `revision`: of a hub data set. Of a live search, `limit`: articles at most; `email`: the address
    that the service asks for; `years`: first and last; `articles`: the folder where fetched articles stay;
    `base_url`: another server than the service's own.
    """

    kinds: tuple[str, ...] = ()
    min_cocitations: int = 1
    hub_cap: int = 20
    include_held_out: bool = False
    domain: str = ""
    qrels_split: str = ""
    revision: str = ""
    hub_split: str = ""
    limit: int = 1000
    email: str = ""
    years: tuple[int, int] | None = None
    articles: Path = Path("articles")
    base_url: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All but the address, which is nobody else's business."""
        said = asdict(self) | {"articles": str(self.articles), "kinds": list(self.kinds)}
        return {name: value for name, value in said.items() if name != "email"}


def build_from(
    sources: Sequence[str],
    *,
    output: Path,
    kind: SourceKind = SourceKind.AUTO,
    source_options: SourceOptions | None = None,
    options: BuildOptions | None = None,
    exclude: Sequence[Path] = (),
    seed: int,
) -> PairsReport:
    """Read the pairs of all sources and build a folder of them: `build_pairs` over `pairs_from`.

    Raises:
        UsageError: a source cannot be read, the folder holds something, or no pair is left.
    """
    source_options = source_options or SourceOptions()
    options = options or BuildOptions()
    check_output(output)
    excluded = read_excluded(exclude)
    found = [
        pairs_from(one, kind=kind, options=source_options, excluded=excluded.ids, seed=seed)
        for one in sources
    ]
    return build_pairs(
        found,
        output=output,
        options=replace(options, exclude=tuple(map(str, exclude))),
        excluded=excluded,
        seed=seed,
    )


def pairs_from(
    source: str,
    *,
    kind: SourceKind = SourceKind.AUTO,
    options: SourceOptions | None = None,
    excluded: AbstractSet[str] = frozenset(),
    seed: int,
) -> PairSource:
    """The pairs of one source: a file, a folder, the id of a hub data set, or a search at a live service.

    `excluded`: ids of documents that take no part when citations become pairs.

    Raises:
        NothingFoundError: there is no such file or folder.
        UsageError: it cannot be read as what it is; the message names file and line.
    """
    options = options or SourceOptions()
    if options.domain and not slug(options.domain):
        raise UsageError(f"{options.domain!r} gives no domain name", hint="use letters, digits and hyphens")
    found = kind_of(source) if kind is SourceKind.AUTO else kind
    reading = _Reading(source, replace(options, domain=slug(options.domain)), excluded, seed)
    made = _READERS[found](reading)
    if kind is SourceKind.AUTO and found is SourceKind.ARTICLES and not made.pairs:
        made = _from_documents(reading)  # PubMed records without references still have titles and abstracts
    return reading.settled(made)


@dataclass(frozen=True, slots=True)
class _Reading:
    source: str
    options: SourceOptions
    excluded: AbstractSet[str]
    seed: int

    @property
    def path(self) -> Path:
        return Path(self.source)

    def settled(self, found: PairSource) -> PairSource:
        """The pairs in the domain that was asked for, with how they were read."""
        pairs = found.pairs
        if domain := self.options.domain:
            pairs = [pair if pair.domain == domain else replace(pair, domain=domain) for pair in pairs]
        return replace(found, pairs=pairs, options=self.options.to_dict())

    def of_kinds(self, pairs: Iterable[Pair], dropped: Counter[str]) -> list[Pair]:
        """Ready pairs as far as their kind is asked for."""
        everything = list(pairs)
        kept = [pair for pair in everything if not self.options.kinds or pair.kind in self.options.kinds]
        dropped["of another kind"] += len(everything) - len(kept)
        return kept

    def made(self, kind: SourceKind, pairs: Sequence[Pair], dropped: Counter[str]) -> PairSource:
        return PairSource(self.source, kind, pairs, dropped=+dropped)


def _from_citations(reading: _Reading) -> PairSource:
    return _cited(reading, read_articles(reading.path), SourceKind.CITATIONS, Counter())


def _cited(
    reading: _Reading, articles: Iterable[Article], kind: SourceKind, dropped: Counter[str]
) -> PairSource:
    options = reading.options
    made = citation_pairs(
        articles,
        options=CitationOptions(
            kinds=_pair_kinds(options.kinds, kind),
            min_cocitations=options.min_cocitations,
            hub_cap=options.hub_cap,
            include_held_out=options.include_held_out,
        ),
        seed=reading.seed,
        excluded=reading.excluded,
    )
    return PairSource(
        reading.source,
        kind,
        made.pairs,
        groups=made.groups,
        dropped=+(dropped + Counter(made.dropped)),
        together=made.graph.together,
    )


def _pair_kinds(names: Sequence[str], source: SourceKind) -> tuple[PairKind, ...]:
    for name in names:
        if name not in set(PairKind):
            raise UsageError(
                f"no kind of pair is called {name!r}", hint=did_you_mean(name, map(str, PairKind))
            )
    live = source in (SourceKind.OPENALEX, SourceKind.PUBMED)  # they know abstracts, and no brackets
    usual = (PairKind.CITED_TITLE, PairKind.CO_CITED) if live else CitationOptions().kinds
    return tuple(map(PairKind, names)) or usual


def _from_qrels(reading: _Reading) -> PairSource:
    found = judged_pairs(reading.path, split=reading.options.qrels_split)
    return PairSource(
        reading.source, SourceKind.QRELS, found.pairs, groups=found.groups, dropped=found.dropped
    )


def _from_pairs(reading: _Reading) -> PairSource:
    path, dropped = reading.path, Counter[str]()
    files = [path / name for name in SPLIT_FILES] if path.is_dir() else [path]
    filled = [file for file in files if len(files) == 1 or (file.is_file() and file.stat().st_size)]
    pairs = reading.of_kinds((pair for file in filled for pair in read_pairs(file)), dropped)
    return reading.made(SourceKind.PAIRS, pairs, dropped)


def _from_articles(reading: _Reading) -> PairSource:
    from moe_retrieval.training.sources.jats import read_jats_articles

    dropped = Counter[str]()

    def articles() -> Iterable[Article]:
        for one in read_jats_articles([reading.path], domain=reading.options.domain):
            if isinstance(one, Rejected):
                dropped["articles that cannot be read"] += 1
            else:
                yield one

    found = list(articles())
    return _cited(reading, found, SourceKind.ARTICLES, dropped)


def _from_documents(reading: _Reading) -> PairSource:
    from moe_retrieval.corpus.readers import read_corpus
    from moe_retrieval.training.pairs.unlabelled import document_pairs

    dropped = Counter[str]()
    options = reading.options

    def documents() -> Iterable[Document]:
        for one in read_corpus([reading.source], domain=options.domain or None):
            if isinstance(one, Document):
                yield one
            else:
                dropped[f"documents {'rejected' if isinstance(one, Rejected) else 'skipped'}"] += 1

    chosen: dict[str, Any] = {"kinds": options.kinds} if options.kinds else {}
    pairs = list(document_pairs(documents(), seed=reading.seed, **chosen))
    return reading.made(SourceKind.DOCUMENTS, pairs, dropped)


def _from_hub(reading: _Reading) -> PairSource:
    from moe_retrieval.training.sources.hub import hub_pairs

    dropped = Counter[str]()
    options = reading.options
    found = hub_pairs(
        reading.source,
        revision=options.revision,
        split=options.hub_split or None,
        domain=options.domain,
    )
    return reading.made(SourceKind.HUB, reading.of_kinds(found, dropped), dropped)


def _from_openalex(reading: _Reading) -> PairSource:
    from moe_retrieval.training.sources import openalex

    return _fetched(reading, openalex.fetch_articles, SourceKind.OPENALEX)


def _from_pubmed(reading: _Reading) -> PairSource:
    from moe_retrieval.training.sources import pubmed

    return _fetched(reading, pubmed.fetch_articles, SourceKind.PUBMED)


def _fetched(reading: _Reading, fetch: Callable[..., Path], kind: SourceKind) -> PairSource:
    """Articles of a search, kept in a folder of their own: the next run goes on where this one ends."""
    options = reading.options
    folder = options.articles / slug(f"{kind} {options.domain} {reading.source}")
    path = fetch(
        reading.source,
        domain=options.domain,
        folder=folder,
        limit=options.limit,
        email=options.email,
        years=options.years,
        base_url=options.base_url or None,
    )
    return _cited(reading, read_articles(path), kind, Counter())


_READERS: dict[SourceKind, Callable[[_Reading], PairSource]] = {
    SourceKind.CITATIONS: _from_citations,
    SourceKind.QRELS: _from_qrels,
    SourceKind.PAIRS: _from_pairs,
    SourceKind.ARTICLES: _from_articles,
    SourceKind.DOCUMENTS: _from_documents,
    SourceKind.HUB: _from_hub,
    SourceKind.OPENALEX: _from_openalex,
    SourceKind.PUBMED: _from_pubmed,
}
