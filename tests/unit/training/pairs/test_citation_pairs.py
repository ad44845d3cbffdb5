"""Pairs from citations: which papers come together, how often, and what is left out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from moe_retrieval.errors import UsageError
from moe_retrieval.training.sources.citations import (
    Article,
    CitationOptions,
    PairKind,
    Reference,
    citation_pairs,
    read_articles,
    write_articles,
)


def reference(name: str, *, abstract: str = "") -> Reference:
    return Reference(name, f"title of {name}", abstract)


def article(name: str, *cited: str, brackets: tuple[tuple[str, ...], ...] = (), **more: object) -> Article:
    fields = {"domain": "cvd", "references": tuple(map(reference, cited))} | more
    return Article(name, f"article {name}", f"what {name} found", brackets=brackets, **fields)  # type: ignore[arg-type]


def only(kind: PairKind, **more: object) -> CitationOptions:
    return CitationOptions(kinds=(kind,), **more)  # type: ignore[arg-type]


BRACKETS = PairKind.SAME_BRACKET


def test_a_cited_title_belongs_to_title_and_abstract_of_the_article() -> None:
    made = citation_pairs([article("a", "r1", date="2001")], seed=0)
    (pair,) = made.pairs
    assert (pair.a, pair.b) == ("article a what a found", "title of r1")
    assert (pair.a_id, pair.b_id, pair.domain, pair.kind) == ("a", "r1", "cvd", "cited-title")
    assert (pair.label, pair.date, made.groups) == (1, "2001", ("a",))


def test_two_papers_of_one_bracket_are_a_pair_and_of_two_brackets_are_not() -> None:
    one = article("a", "r1", "r2", "r3", brackets=(("r1", "r2"), ("r3",)))
    made = citation_pairs([one], options=only(BRACKETS), seed=0)
    assert [{pair.a_id, pair.b_id} for pair in made.pairs] == [{"r1", "r2"}]
    assert made.groups == ("a",)


def test_abstracts_cited_by_one_article_are_co_cited() -> None:
    cited = (reference("r1", abstract="one"), reference("r2", abstract="two"), reference("r3"))
    made = citation_pairs([article("a", references=cited)], options=only(PairKind.CO_CITED), seed=0)
    (pair,) = made.pairs
    assert {pair.a, pair.b} == {"title of r1 one", "title of r2 two"}


def test_the_abstract_of_a_cited_article_is_known_from_the_article_itself() -> None:
    articles = [article("x", "r9", pmid="1"), article("y", "r8", pmid="2"), article("a", "pmid:1", "pmid:2")]
    made = citation_pairs(articles, options=only(PairKind.CO_CITED), seed=0)
    assert [{pair.a_id, pair.b_id} for pair in made.pairs] == [{"x", "y"}]


def test_papers_that_too_few_articles_cite_together_are_no_pair() -> None:
    twice = ("r1", "r2")
    articles = [article("a", "r1", "r2", "r3", brackets=(("r1", "r2", "r3"),)), article("b", *twice)]
    made = citation_pairs(articles, options=only(BRACKETS, min_cocitations=2), seed=0)
    assert [{pair.a_id, pair.b_id} for pair in made.pairs] == [{"r1", "r2"}]
    assert made.dropped == {"cited together too seldom": 2}


def test_a_held_out_article_does_not_count_as_citing_together() -> None:
    articles = [
        article("a", "r1", "r2", brackets=(("r1", "r2"),)),
        article("b", "r1", "r2", held_out=True),
    ]
    made = citation_pairs(articles, options=only(BRACKETS, min_cocitations=2), seed=0)
    assert made.pairs == ()


def test_a_hub_takes_part_in_no_more_pairs_of_a_kind_than_its_cap() -> None:
    articles = [article(f"a{n}", "hub", f"r{n}", brackets=(("hub", f"r{n}"),)) for n in range(9)]
    made = citation_pairs(articles, options=CitationOptions(hub_cap=3), seed=0)
    uses = Counter(pair.kind for pair in made.pairs if "hub" in pair.documents)
    assert uses == {"cited-title": 3, "same-bracket": 3}
    assert made.dropped == {"over the hub cap": 12}


def test_a_pair_of_several_brackets_is_made_once() -> None:
    articles = [article(name, "r1", "r2", brackets=(("r1", "r2"), ("r2", "r1"))) for name in "ab"]
    made = citation_pairs(articles, options=only(BRACKETS), seed=0)
    assert (len(made.pairs), made.dropped) == (1, {"stands twice": 3})


def test_ids_that_dangle_are_left_out_and_counted() -> None:
    one = article("a", "r1", "r2", brackets=(("r1", "gone", "r2"), ("lost", "r1")))
    made = citation_pairs([one], options=only(BRACKETS), seed=0)
    assert (len(made.pairs), made.dropped) == (1, {"dangling bracket ids": 2})


def test_empty_and_identical_texts_are_left_out_and_counted() -> None:
    cited = (Reference("r1", "  "), Reference("r2", "Same  Title"), Reference("r3", "same title"))
    one = article("a", references=cited, brackets=(("r1", "r2"), ("r2", "r3")))
    made = citation_pairs([one], options=only(BRACKETS), seed=0)
    assert (made.pairs, made.dropped) == ((), {"a text is empty": 1, "both texts are the same": 1})


def test_held_out_articles_give_no_pairs_and_are_in_none() -> None:
    articles = [article("held", "r1", pmid="7", held_out=True), article("a", "pmid:7", "r2")]
    made = citation_pairs(articles, seed=0)
    assert [pair.documents for pair in made.pairs] == [("a", "r2")]
    assert made.dropped == {"articles held out": 1, "references excluded": 1}
    everything = citation_pairs(articles, options=CitationOptions(include_held_out=True), seed=0)
    assert len(everything.pairs) == 3


@pytest.mark.parametrize("name", ["r1", "a", "pmid:7"])
def test_no_pair_touches_an_excluded_document_by_whatever_id(name: str) -> None:
    articles = [article("a", "r1", "r2", pmid="7"), article("b", "r1", "pmid:7", "r3")]
    made = citation_pairs(articles, seed=0, excluded={name})
    touched = {one for pair in made.pairs for one in pair.documents}
    assert not touched & {name, "a" if name == "pmid:7" else name}
    assert "r3" in touched


@pytest.mark.parametrize("kind", [PairKind.CITED_TITLE, BRACKETS])
def test_negatives_are_of_one_domain_and_never_cited_together(kind: PairKind) -> None:
    articles = [
        article(
            f"{domain}{n}",
            *(f"{domain}{n}r{k}" for k in range(4)),
            "shared",
            brackets=(tuple(f"{domain}{n}r{k}" for k in range(4)),),
            domain=domain,
        )
        for domain in ("cvd", "lung")
        for n in range(6)
    ]
    made = citation_pairs(articles, options=only(kind, negatives=1), seed=0)
    negative = [pair for pair in made.pairs if not pair.label]
    assert len(negative) >= 0.9 * (len(made.pairs) - len(negative))
    for pair in negative:
        assert not made.graph.together(pair.a_id, pair.b_id)
        assert all(name.startswith(pair.domain) or name == "shared" for name in pair.documents)
    assert len(made.groups) == len(made.pairs)


def test_negatives_that_cannot_be_found_are_counted() -> None:
    made = citation_pairs([article("a", "r1", "r2")], options=CitationOptions(negatives=1), seed=0)
    assert (len(made.pairs), made.dropped) == (2, {"no negative found": 2})


def test_the_seed_decides_and_the_order_of_names_does_not() -> None:
    articles = [article(f"a{n}", "hub", f"r{n}", brackets=(("hub", f"r{n}"),)) for n in range(30)]
    options = CitationOptions(hub_cap=5, negatives=1)
    one, again, other = (citation_pairs(articles, options=options, seed=seed) for seed in (1, 1, 2))
    assert one.pairs == again.pairs
    assert one.pairs != other.pairs


@pytest.mark.parametrize(
    "wrong", [{"min_cocitations": 0}, {"hub_cap": 0}, {"negatives": -1}, {"kinds": ()}], ids=str
)
def test_options_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"start at 1|no kind"):
        CitationOptions(**wrong)  # type: ignore[arg-type]


def test_articles_are_read_as_they_were_written(tmp_path: Path) -> None:
    half = "half \ud835 a character"
    articles = [
        article("a", "r1", brackets=(("r1", "r2"),), date="2001-02", held_out=True, pmid="7"),
        article("b", references=(Reference("r3", "line\u2028separator", half),)),
    ]
    write_articles(tmp_path / "new" / "articles.jsonl", articles)
    assert list(read_articles(tmp_path / "new" / "articles.jsonl")) == articles
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["articles.jsonl"]


GOOD = {"_id": "a", "title": "t", "abstract": "", "domain": "Heart Failure", "references": []}


def test_what_a_record_lacks_is_empty(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text("\n" + json.dumps({"_id": "a", "title": "t", "brackets": None}) + "\n")
    (one,) = read_articles(tmp_path / "f.jsonl")
    assert one == Article("a", "t", "", "", ())


def test_a_domain_becomes_a_slug(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text(json.dumps(GOOD))
    assert next(read_articles(tmp_path / "f.jsonl")).domain == "heart-failure"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"_id": "a", "title"', "line 2 is no JSON"),
        ("[1]", "line 2 is no article: it is no object"),
        ('{"title": "t"}', "line 2 is no article: an _id is missing"),
        ('{"_id": "a", "title": 3}', "its title is no text"),
        ('{"_id": "a", "references": {"_id": "b"}}', "its references are no list"),
        ('{"_id": "a", "references": ["b"]}', "a reference is no object"),
        ('{"_id": "a", "references": [{"title": "b"}]}', "an _id is missing"),
        ('{"_id": "a", "brackets": [["b", 3]]}', "a bracket is no list of ids"),
        ("[" * 100_000, "line 2 is nested too deeply"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "f.jsonl").write_text(json.dumps(GOOD) + "\n" + line + "\n")
    with pytest.raises(UsageError, match=said) as raised:
        list(read_articles(tmp_path / "f.jsonl"))
    assert "references" in raised.value.hint


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'{"_id": "caf\xe9"}')
    for name in ("latin.jsonl", "gone.jsonl"):
        with pytest.raises(UsageError, match=f"{name} cannot be read"):
            list(read_articles(tmp_path / name))
