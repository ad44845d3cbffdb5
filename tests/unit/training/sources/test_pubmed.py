"""PubMed: answers in the format of the E-utilities become articles; references by list and by link."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from web_service import Answer, Asked, Clock, Service, serving

from moe_retrieval.errors import FetchError, MissingExtraError, NothingFoundError, UsageError
from moe_retrieval.training.sources import pubmed
from moe_retrieval.training.sources.citations import Article, Reference, read_articles
from moe_retrieval.training.sources.pubmed import fetch_articles

SET = (
    '<?xml version="1.0" ?><!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 2025//EN"'
    ' "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd"><PubmedArticleSet>{}</PubmedArticleSet>'
)
LINKS = (
    '<?xml version="1.0" encoding="UTF-8" ?><!DOCTYPE eLinkResult PUBLIC "-//NLM//DTD elink 20101123//EN" '
    '"https://eutils.ncbi.nlm.nih.gov/eutils/dtd/20101123/elink.dtd"><eLinkResult>{}</eLinkResult>'
)


def record(number: int, *, cites: tuple[int, ...] = (), title: str = "", abstract: str = "A text.") -> str:
    listed = "".join(
        f"<Reference><Citation>Doe J. 1999.</Citation><ArticleIdList>"
        f'<ArticleId IdType="pubmed">{cited}</ArticleId></ArticleIdList></Reference>'
        for cited in cites
    )
    return f"""<PubmedArticle><MedlineCitation><PMID Version="1">{number}</PMID><Article>
<Journal><JournalIssue><PubDate><Year>2011</Year><Month>Feb</Month></PubDate></JournalIssue></Journal>
<ArticleTitle>{title or f"Study {number}"}</ArticleTitle><Abstract><AbstractText Label="AIM">{abstract}
</AbstractText></Abstract></Article></MedlineCitation><PubmedData><ReferenceList>{listed}</ReferenceList>
</PubmedData></PubmedArticle>"""


def links(number: str, *cited: int) -> str:
    found = "".join(f"<Link><Id>{one}</Id></Link>" for one in cited)
    linked = f"<LinkSetDb><LinkName>pubmed_pubmed_refs</LinkName>{found}</LinkSetDb>" if cited else ""
    return f"<LinkSet><DbFrom>pubmed</DbFrom><IdList><Id>{number}</Id></IdList>{linked}</LinkSet>"


class PubMed:
    """A search with its history, records by window or number, and links."""

    def __init__(
        self, found: dict[int, str], cited: dict[int, str], linked: dict[str, tuple[int, ...]]
    ) -> None:
        self.found, self.records, self.linked = found, found | cited, linked
        self.before: Callable[[Asked, int], Answer | None] = lambda asked, number: None
        self.count = 0

    def __call__(self, asked: Asked) -> Answer:
        self.count += 1
        if (other := self.before(asked, self.count)) is not None:
            return other
        return getattr(self, asked.path.rpartition("/")[2].removesuffix(".fcgi"))(asked)

    def esearch(self, _: Asked) -> Answer:
        found = {"count": str(len(self.found)), "querykey": "1", "webenv": "MCID_1", "idlist": []}
        return Answer(json.dumps({"header": {}, "esearchresult": found}))

    def efetch(self, asked: Asked) -> Answer:
        if "WebEnv" in asked.fields:
            start, size = int(asked.fields["retstart"]), int(asked.fields["retmax"])
            return Answer(SET.format("".join(list(self.found.values())[start : start + size])))
        names = map(int, asked.fields["id"].split(","))
        return Answer(SET.format("".join(self.records[name] for name in names if name in self.records)))

    def elink(self, asked: Asked) -> Answer:
        names = [value for name, value in asked.all if name == "id"]
        return Answer(LINKS.format("".join(links(name, *self.linked.get(name, ())) for name in names)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Biopython's own pauses, on top of ours, pass at once."""
    from Bio import Entrez

    monkeypatch.setattr(Entrez, "time", SimpleNamespace(time=lambda: 0.0, sleep=lambda seconds: None))
    return Clock()


@pytest.fixture
def many() -> PubMed:
    """Five records on three pages, that cite one paper each."""
    found = {number: record(number, cites=(100 + number,)) for number in range(1, 6)}
    return PubMed(found, {number: record(number) for number in range(101, 106)}, {})


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pubmed, "PAGE", 2)
    monkeypatch.delenv("NCBI_API_KEY", raising=False)


def fetched(service: Service, folder: Path, clock: Clock, **options: Any) -> list[Article]:
    options = {"query": "heart[ti]", "domain": "cardio", "email": "a@example.org"} | options
    path = fetch_articles(**options, folder=folder, base_url=service.url, clock=clock, sleep=clock.sleep)
    return list(read_articles(path))


def test_a_record_becomes_an_article_with_what_its_list_cites(tmp_path: Path, clock: Clock) -> None:
    cited = record(7, title="On <i>digoxin</i>", abstract="Old &lt; new.")
    with serving(PubMed({1: record(1, cites=(7, 8))}, {7: cited}, {})) as service:
        (article,) = fetched(service, tmp_path, clock)
    assert article == Article(
        id="pmid:1",
        title="Study 1",
        abstract="Aim: A text.",
        domain="cardio",
        references=(Reference("pmid:7", "On digoxin", "Aim: Old < new."),),
        date="2011-02",
        pmid="1",
    )


def test_a_record_without_a_list_is_asked_about_by_its_links(tmp_path: Path, clock: Clock) -> None:
    found = {1: record(1), 2: record(2, cites=(9,))}
    with serving(PubMed(found, {8: record(8), 9: record(9)}, {"1": (8, 9)})) as service:
        first, second = fetched(service, tmp_path, clock)
        asked = [one for one in service.asked if one.path == "/elink.fcgi"]
    assert [one.id for one in first.references] == ["pmid:8", "pmid:9"]
    assert [one.id for one in second.references] == ["pmid:9"]
    assert [one.all[-1] for one in asked] == [("id", "1")]
    assert asked[0].fields["linkname"] == "pubmed_pubmed_refs"


def test_a_record_without_abstract_or_references_is_left_out(tmp_path: Path, clock: Clock) -> None:
    found = {1: record(1, cites=(9,), abstract=""), 2: record(2), 3: record(3, cites=(9,))}
    with serving(PubMed(found, {9: record(9)}, {})) as service:
        assert [one.id for one in fetched(service, tmp_path, clock)] == ["pmid:3"]


def test_the_search_says_who_asks_and_keeps_its_history(tmp_path: Path, clock: Clock, many: PubMed) -> None:
    with serving(many) as service:
        fetched(service, tmp_path, clock, years=(2001, 2004), query="a OR b")
        search, fetch = service.asked[:2]
    assert search.path == "/esearch.fcgi"
    assert search.fields == {
        "db": "pubmed",
        "term": "(a OR b) AND hasabstract",
        "usehistory": "y",
        "retmax": "0",
        "retmode": "json",
        "datetype": "pdat",
        "mindate": "2001",
        "maxdate": "2004",
        "tool": "moeret",
        "email": "a@example.org",
    }
    assert (fetch.fields["WebEnv"], fetch.fields["query_key"]) == ("MCID_1", "1")
    assert (fetch.fields["retstart"], fetch.fields["retmax"]) == ("0", "2")


def test_every_page_is_read_up_to_the_limit(tmp_path: Path, clock: Clock, many: PubMed) -> None:
    with serving(many) as service:
        assert [one.pmid for one in fetched(service, tmp_path, clock, limit=3)] == ["1", "2", "3"]


def test_three_requests_a_second_without_a_key_and_ten_with_one(
    tmp_path: Path, clock: Clock, many: PubMed
) -> None:
    with serving(many) as service:
        fetched(service, tmp_path / "slow", clock)
        slow, requests = clock.now, len(service.asked) - 1
        fetched(service, tmp_path / "fast", clock, api_key="sesame")
        assert service.asked[-1].fields["api_key"] == "sesame"
    assert slow == pytest.approx(requests / 3)
    assert clock.now - slow == pytest.approx(requests / 10)


def test_more_numbers_than_an_address_holds_are_posted(tmp_path: Path, clock: Clock) -> None:
    cites = tuple(range(10_000_000, 10_000_150))
    with serving(PubMed({1: record(1, cites=cites)}, {one: record(one) for one in cites}, {})) as service:
        (article,) = fetched(service, tmp_path, clock)
        assert service.asked[-1].method == "POST"
    assert len(article.references) == 150


@pytest.mark.parametrize(
    "broken",
    [
        Answer('{"error":"API rate limit exceeded","count":"4","limit":"3"}', 429),
        Answer(SET.format("")[:-20], withheld=20),
        Answer(SET.format("")[:-20]),
        Answer("<eFetchResult><ERROR>Unable to obtain query #1</ERROR></eFetchResult>"),
        Answer("", 502),
    ],
    ids=["rate limit", "the line is cut", "half an answer", "an error in the answer", "bad gateway"],
)
def test_what_may_pass_is_asked_for_again(tmp_path: Path, clock: Clock, many: PubMed, broken: Answer) -> None:
    many.before = lambda asked, number: broken if number in (2, 4) else None
    with serving(many) as service:
        assert len(fetched(service, tmp_path, clock)) == 5
    assert clock.slept.count(1) == 2


@pytest.mark.parametrize("broken", ['{"esearchres', '{"esearchresult": {"count": "5"}}', "[]"])
def test_half_a_search_is_repeated(tmp_path: Path, clock: Clock, many: PubMed, broken: str) -> None:
    many.before = lambda asked, number: Answer(broken) if number == 1 else None
    with serving(many) as service:
        assert len(fetched(service, tmp_path, clock)) == 5


def test_half_an_answer_about_links_is_repeated(tmp_path: Path, clock: Clock) -> None:
    service_of = PubMed({1: record(1)}, {8: record(8)}, {"1": (8,)})
    service_of.before = lambda asked, number: Answer("<eLinkResult><LinkSet>") if number == 3 else None
    with serving(service_of) as service:
        assert len(fetched(service, tmp_path, clock)) == 1
        assert [one.path for one in service.asked].count("/elink.fcgi") == 2


def test_a_killed_fetch_searches_anew_and_goes_on_with_no_article_twice(
    tmp_path: Path, clock: Clock, many: PubMed
) -> None:
    class KilledError(BaseException):
        pass

    def kill(done: int, _: int) -> None:
        if done == 4:
            raise KilledError

    with serving(many) as service:
        with pytest.raises(KilledError):
            fetched(service, tmp_path, clock, progress=kill)
        many.found = {6: record(6, cites=(101,))} | many.found  # published since: the others move back
        before = len(service.asked)
        ids = [one.pmid for one in fetched(service, tmp_path, clock)]
        assert service.asked[before + 1].fields["retstart"] == "4"
    assert ids == ["1", "2", "3", "4", "5"]


def test_biopython_is_left_as_it_was(tmp_path: Path, clock: Clock, many: PubMed) -> None:
    from urllib.request import urlopen

    from Bio import Entrez

    many.before = lambda asked, number: Answer("", 400) if number == 3 else None
    with serving(many) as service, pytest.raises(FetchError, match="refuses: 400"):
        fetched(service, tmp_path, clock)
    assert Entrez.urlopen is urlopen


# --- refusals ---------------------------------------------------------------------------------------------


def test_a_search_without_results_says_so(tmp_path: Path, clock: Clock) -> None:
    with (
        serving(PubMed({}, {}, {})) as service,
        pytest.raises(NothingFoundError, match=r"PubMed finds nothing for 'heart\[ti\]' in 1999 to 2000"),
    ):
        fetched(service, tmp_path, clock, years=(1999, 2000))


def test_a_query_that_pubmed_refuses_is_named(tmp_path: Path, clock: Clock, many: PubMed) -> None:
    refusal = Answer(json.dumps({"esearchresult": {"ERROR": "Search Backend failed: too long"}}))
    many.before = lambda asked, number: refusal
    with (
        serving(many) as service,
        pytest.raises(FetchError, match="refuses the search: Search Backend failed"),
    ):
        fetched(service, tmp_path, clock)


def test_a_search_without_an_address_is_refused(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(UsageError, match="needs an e-mail address: NCBI asks for it; give --email"):
        fetched(Service("http://127.0.0.1:9", []), tmp_path, clock, email="")


def test_more_than_pubmed_lists_is_refused(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(UsageError, match="lists 9,999 records of a search, not 10,000; search year by year"):
        fetched(Service("http://127.0.0.1:9", []), tmp_path, clock, limit=10_000)


def test_a_missing_package_names_its_extra(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "Bio.Entrez", None)
    with pytest.raises(MissingExtraError, match=r"needs biopython; pip install 'moeret\[literature\]'"):
        fetched(Service("http://127.0.0.1:9", []), tmp_path, clock)
