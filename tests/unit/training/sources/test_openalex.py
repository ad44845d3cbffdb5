"""OpenAlex: answers in its format become articles; busy, cut, killed and refused fetches."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from web_service import Answer, Asked, Clock, Service, serving

from moe_retrieval.errors import FetchError, MissingExtraError, MoeretError, NothingFoundError, UsageError
from moe_retrieval.training.sources import openalex, polite
from moe_retrieval.training.sources.citations import Article, Reference, read_articles
from moe_retrieval.training.sources.openalex import fetch_articles

HOME = "https://openalex.org"


def work(number: int, *, cites: tuple[int, ...] = (), **fields: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": f"{HOME}/W{number}",
        "ids": {"openalex": f"{HOME}/W{number}"},
        "title": f"Trial number {number}",
        "abstract_inverted_index": {"the": [1, 3], "Of": [0], "heart": [2], "rhythm": [4]},
        "publication_date": "2019-03-02",
        "referenced_works": [f"{HOME}/W{cited}" for cited in cites],
    }
    return record | fields


class OpenAlex:
    """The two questions that are asked: a page of a search, and works by their ids."""

    def __init__(self, *works: dict[str, Any]) -> None:
        self.works = {one["id"].rpartition("/")[2]: one for one in works}
        self.found = [one for one in works if one["referenced_works"]]
        self.before: Callable[[Asked, int], Answer | None] = lambda asked, number: None
        self.count = 0

    def __call__(self, asked: Asked) -> Answer:
        self.count += 1
        if (other := self.before(asked, self.count)) is not None:
            return other
        ids = dict(part.split(":", 1) for part in asked.fields["filter"].split(",")).get("openalex_id")
        if ids:
            return page([self.works[name] for name in ids.split("|") if name in self.works], 0, None)
        size = int(asked.fields["per-page"])
        if "page" in asked.fields:
            start, following = (int(asked.fields["page"]) - 1) * size, None
        else:
            start = 0 if asked.fields["cursor"] == "*" else int(asked.fields["cursor"].removeprefix("at"))
            following = f"at{start + size}"
        return page(self.found[start : start + size], len(self.found), following)


def page(works: list[dict[str, Any]], count: int, following: str | None) -> Answer:
    return Answer(json.dumps({"meta": {"count": count, "next_cursor": following}, "results": works}))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def many() -> Iterator[OpenAlex]:
    """Three pages of two works, one reference each."""
    yield OpenAlex(*(work(number, cites=(100 + number,)) for number in range(6)), *map(work, range(100, 106)))


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openalex, "PAGE", 2)
    monkeypatch.delenv("OPENALEX_API_KEY", raising=False)


def fetched(service: Service, folder: Path, clock: Clock, **options: Any) -> list[Article]:
    options = {"query": "heart rhythm", "domain": "cardio"} | options
    path = fetch_articles(**options, folder=folder, base_url=service.url, clock=clock, sleep=clock.sleep)
    return list(read_articles(path))


def test_a_work_becomes_an_article_with_the_titles_and_abstracts_it_cites(
    tmp_path: Path, clock: Clock
) -> None:
    cited = work(
        7, title="On <i>digoxin</i> &amp; more: a < b", ids={"pmid": "https://pubmed.ncbi.nlm.nih.gov/55"}
    )
    citing = work(1, cites=(7, 8), ids={"pmid": "https://pubmed.ncbi.nlm.nih.gov/44"})
    with serving(OpenAlex(citing, cited)) as service:
        (article,) = fetched(service, tmp_path, clock)
    assert article == Article(
        id="pmid:44",
        title="Trial number 1",
        abstract="Of the heart the rhythm",
        domain="cardio",
        references=(Reference("pmid:55", "On digoxin & more: a < b", "Of the heart the rhythm"),),
        date="2019-03-02",
        pmid="44",
    )


def test_a_work_without_abstract_or_known_references_is_left_out(tmp_path: Path, clock: Clock) -> None:
    silent = work(1, cites=(9,), abstract_inverted_index=None)
    unknown = work(2, cites=(404,))
    with serving(OpenAlex(silent, unknown, work(3, cites=(9,)), work(9))) as service:
        assert [one.id for one in fetched(service, tmp_path, clock)] == ["openalex:W3"]


def test_the_search_is_worded_with_its_years(tmp_path: Path, clock: Clock) -> None:
    with serving(OpenAlex(work(1, cites=(2,)), work(2))) as service:
        fetched(service, tmp_path, clock, query="heart & rhythm", years=(2001, 2004))
        asked = service.asked[0]
    assert asked.path == "/works"
    assert asked.fields["search"] == "heart & rhythm"
    assert "from_publication_date:2001-01-01,to_publication_date:2004-12-31" in asked.fields["filter"]


def test_every_page_is_read_up_to_the_limit(tmp_path: Path, clock: Clock, many: OpenAlex) -> None:
    with serving(many) as service:
        assert [one.id for one in fetched(service, tmp_path, clock, limit=5)] == [
            f"openalex:W{number}" for number in range(5)
        ]


def test_a_higher_limit_goes_on_where_the_lower_one_stopped(
    tmp_path: Path, clock: Clock, many: OpenAlex
) -> None:
    with serving(many) as service:
        fetched(service, tmp_path, clock, limit=3)
        before = len(service.asked)
        assert [one.title for one in fetched(service, tmp_path, clock, limit=100)] == [
            f"Trial number {number}" for number in range(6)
        ]
        assert service.asked[before].fields["page"] == "2"


def test_a_finished_fetch_asks_nothing_more(tmp_path: Path, clock: Clock, many: OpenAlex) -> None:
    with serving(many) as service:
        first = fetched(service, tmp_path, clock)
        before = len(service.asked)
        assert fetched(service, tmp_path, clock) == first
        assert len(service.asked) == before


def test_a_key_is_sent_in_a_header_and_pages_by_cursor(tmp_path: Path, clock: Clock, many: OpenAlex) -> None:
    with serving(many) as service:
        found = fetched(service, tmp_path, clock, api_key="sesame", email="a@example.org")
        asked = service.asked
    assert len(found) == 6
    assert [one.fields["cursor"] for one in asked if "cursor" in one.fields] == ["*", "at2", "at4", "at6"]
    assert asked[0].headers["authorization"] == "Bearer sesame"
    assert asked[0].headers["user-agent"] == "moeret (mailto:a@example.org)"
    assert "sesame" not in str([one.fields for one in asked])


def test_the_key_of_the_environment_is_used(
    tmp_path: Path, clock: Clock, many: OpenAlex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENALEX_API_KEY", "from-outside")
    with serving(many) as service:
        fetched(service, tmp_path, clock)
        assert service.asked[0].headers["authorization"] == "Bearer from-outside"


def test_a_paper_that_several_cite_is_asked_for_once(tmp_path: Path, clock: Clock) -> None:
    with serving(OpenAlex(*(work(number, cites=(50,)) for number in range(4)), work(50))) as service:
        assert len(fetched(service, tmp_path, clock)) == 4
        assert sum("openalex_id:W50" in asked.fields["filter"] for asked in service.asked) == 1


def test_requests_keep_their_distance(tmp_path: Path, clock: Clock, many: OpenAlex) -> None:
    with serving(many) as service:
        fetched(service, tmp_path, clock)
        assert clock.now == pytest.approx(0.1 * (len(service.asked) - 1))


def test_too_many_requests_are_repeated_after_the_time_that_is_asked_for(
    tmp_path: Path, clock: Clock, many: OpenAlex
) -> None:
    many.before = lambda asked, number: (
        Answer("slow down", 429, {"Retry-After": "17"}) if number == 1 else None
    )
    with serving(many) as service:
        assert len(fetched(service, tmp_path, clock)) == 6
    assert clock.slept[0] == 17


def test_a_retry_after_may_be_a_date(tmp_path: Path, clock: Clock, many: OpenAlex) -> None:
    later = "Wed, 31 Dec 2098 23:59:59 GMT"
    many.before = lambda asked, number: Answer("", 503, {"Retry-After": later}) if number == 1 else None
    with serving(many) as service, pytest.raises(FetchError, match=r"asks to be left alone for [\d,]+ sec"):
        fetched(service, tmp_path, clock)


def test_a_server_that_falls_silent_is_asked_again(
    tmp_path: Path, clock: Clock, many: OpenAlex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polite, "TIMEOUT", 0.2)
    awake = threading.Event()

    def sleepy(_: Asked, number: int) -> Answer | None:
        return Answer() if number == 1 and awake.wait(30) else None

    many.before = sleepy
    with serving(many) as service:
        try:
            assert len(fetched(service, tmp_path, clock)) == 6
        finally:
            awake.set()
    assert clock.slept[0] == 1


def test_a_failing_server_is_asked_ever_more_seldom(tmp_path: Path, clock: Clock, many: OpenAlex) -> None:
    many.before = lambda asked, number: Answer("", 503) if number < 5 else None
    with serving(many) as service:
        fetched(service, tmp_path, clock)
    assert clock.slept[:4] == [1, 2, 4, 8]


def test_a_server_that_never_recovers_ends_the_fetch_with_a_next_step(
    tmp_path: Path, clock: Clock, many: OpenAlex
) -> None:
    many.before = lambda asked, number: Answer("", 500)
    with serving(many) as service, pytest.raises(FetchError, match=r"did not answer 6 times: 500.*goes on"):
        fetched(service, tmp_path, clock)


@pytest.mark.parametrize(
    "broken",
    [Answer('{"meta": {"count": 6}, "resu', withheld=90), Answer('{"meta": {"coun'), Answer('{"error": 1}')],
    ids=["the line is cut", "half an answer", "another answer"],
)
def test_a_cut_answer_is_asked_for_again(
    tmp_path: Path, clock: Clock, many: OpenAlex, broken: Answer
) -> None:
    many.before = lambda asked, number: broken if number == 2 else None
    with serving(many) as service:
        assert len(fetched(service, tmp_path, clock)) == 6


def test_a_killed_fetch_goes_on_with_no_article_twice(tmp_path: Path, clock: Clock, many: OpenAlex) -> None:
    class KilledError(BaseException):
        pass

    def kill(done: int, _: int) -> None:
        if done == 4:
            raise KilledError

    with serving(many) as service:
        with pytest.raises(KilledError):
            fetched(service, tmp_path, clock, progress=kill)
        with (tmp_path / "articles.jsonl").open("a") as stream:
            stream.write('{"_id": "half a li')  # it was killed while it wrote the next page
        before = len(service.asked)
        ids = [one.id for one in fetched(service, tmp_path, clock)]
        assert service.asked[before].fields["page"] == "3"
    assert ids == [f"openalex:W{number}" for number in range(6)]


def test_a_fetch_killed_before_its_first_page_was_counted_begins_anew(
    tmp_path: Path, clock: Clock, many: OpenAlex
) -> None:
    many.before = lambda asked, number: Answer("no", 400)
    with serving(many) as service:
        with pytest.raises(FetchError):
            fetched(service, tmp_path, clock)
        (tmp_path / "articles.jsonl").write_text('{"_id": "half')
        many.before = lambda asked, number: None
        assert len(fetched(service, tmp_path, clock)) == 6


def test_progress_counts_articles_of_those_to_come(tmp_path: Path, clock: Clock, many: OpenAlex) -> None:
    told: list[tuple[int, int]] = []
    with serving(many) as service:
        fetched(service, tmp_path, clock, limit=5, progress=lambda done, of: told.append((done, of)))
    assert told == [(2, 5), (4, 5), (5, 5)]


# --- refusals ---------------------------------------------------------------------------------------------


def test_a_search_without_results_says_so(tmp_path: Path, clock: Clock) -> None:
    with (
        serving(OpenAlex()) as service,
        pytest.raises(NothingFoundError, match="OpenAlex finds nothing for 'heart rhythm'"),
    ):
        fetched(service, tmp_path, clock)


def test_results_that_are_all_unusable_are_told_from_none(tmp_path: Path, clock: Clock) -> None:
    with (
        serving(OpenAlex(work(1, cites=(404,)))) as service,
        pytest.raises(NothingFoundError, match=r"knows no abstract and references .*\(1 papers\)"),
    ):
        fetched(service, tmp_path, clock)


def test_a_refused_key_says_so(tmp_path: Path, clock: Clock, many: OpenAlex) -> None:
    many.before = lambda asked, number: Answer('{"error": "Invalid API key"}', 401)
    with serving(many) as service, pytest.raises(FetchError, match=r"wants a key, or another one: .*Invalid"):
        fetched(service, tmp_path, clock, api_key="wrong")


def test_more_works_than_are_listed_without_a_key_say_how_to_get_them(
    tmp_path: Path, clock: Clock, many: OpenAlex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openalex, "MOST_PAGED", 4)
    with serving(many) as service:
        assert len(fetched(service, tmp_path, clock, limit=4)) == 4
        with pytest.raises(FetchError, match=r"lists 4 works without a key.*; set OPENALEX_API_KEY"):
            fetched(service, tmp_path, clock, limit=5)
        assert len(list(read_articles(tmp_path / "articles.jsonl"))) == 4


def test_a_query_that_the_service_cannot_read_is_not_repeated(
    tmp_path: Path, clock: Clock, many: OpenAlex
) -> None:
    many.before = lambda asked, number: Answer("Invalid query", 400)
    with serving(many) as service:
        with pytest.raises(FetchError, match="refuses: 400 Invalid query; check the query"):
            fetched(service, tmp_path, clock)
        assert len(service.asked) == 1


def test_without_a_connection_it_says_what_else_can_be_done(tmp_path: Path, clock: Clock) -> None:
    with serving(OpenAlex()) as service:
        pass
    with pytest.raises(FetchError, match=r"OpenAlex cannot be reached: .*; check the connection .* on disk"):
        fetched(service, tmp_path, clock)
    assert sum(clock.slept) < 5


def test_a_missing_package_names_its_extra(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyalex", None)
    with pytest.raises(MissingExtraError, match=r"needs pyalex; pip install 'moeret\[literature\]'"):
        fetched(Service("http://127.0.0.1:9", []), tmp_path, clock)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"query": " "}, "needs words"),
        ({"domain": ""}, "needs the domain .* --domain"),
        ({"limit": 0}, "the limit is 0"),
        ({"years": (2020, 2010)}, "no years are 2020 to 2010"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(
    tmp_path: Path, clock: Clock, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        fetched(Service("http://127.0.0.1:9", []), tmp_path, clock, **options)


def test_a_base_that_is_no_address_of_the_web_is_refused(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(UsageError, match="'file:///etc' is no address of a service"):
        fetched(Service("file:///etc", []), tmp_path, clock)


def test_a_folder_holds_one_search(tmp_path: Path, clock: Clock, many: OpenAlex) -> None:
    with serving(many) as service:
        fetched(service, tmp_path, clock)
        with pytest.raises(UsageError, match="holds another search: 'heart rhythm' at OpenAlex"):
            fetched(service, tmp_path, clock, query="liver")


def test_a_file_of_another_origin_is_not_touched(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "articles.jsonl").write_text("mine")
    with pytest.raises(UsageError, match="is of another origin; choose another folder"):
        fetched(Service("http://127.0.0.1:9", []), tmp_path, clock)
    assert (tmp_path / "articles.jsonl").read_text() == "mine"


@pytest.mark.parametrize("state", ["{", '{"search": {"query": "x"}}', "[]"])
def test_a_damaged_state_is_named(tmp_path: Path, clock: Clock, state: str) -> None:
    (tmp_path / "fetch.json").write_text(state)
    with pytest.raises(UsageError, match=r"fetch\.json is damaged"):
        fetched(Service("http://127.0.0.1:9", []), tmp_path, clock)


def test_a_file_that_lost_articles_is_named(tmp_path: Path, clock: Clock, many: OpenAlex) -> None:
    with serving(many) as service:
        fetched(service, tmp_path, clock, limit=2)
        (tmp_path / "articles.jsonl").write_text("")
        with pytest.raises(UsageError, match="is shorter than it was left"):
            fetched(service, tmp_path, clock)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MoeretError, match="cannot be written: Not a directory; make room"):
        fetched(Service("http://127.0.0.1:9", []), tmp_path / "file" / "below", clock)
