"""References and brackets of PMC articles and PubMed records on disk."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from moe_retrieval.corpus.sources import Limits
from moe_retrieval.errors import UsageError
from moe_retrieval.training.sources.citations import Article, Reference, read_articles, write_articles
from moe_retrieval.training.sources.jats import read_jats_articles
from moe_retrieval.types import Rejected

DATES = """<pub-date pub-type="collection"><year>2018</year></pub-date>
<pub-date pub-type="epub"><day>5</day><month>3</month><year>2018</year></pub-date>"""


def ref(number: int, *, ids: str = "", title: str = "", tag: str = "element-citation") -> str:
    named = ids or f'<pub-id pub-id-type="pmid">{number}</pub-id>'
    said = f"<article-title>{title or f'Paper {number}'}.</article-title>"
    return f'<ref id="B{number}"><label>{number}</label><{tag}>{said}<year>1999</year>{named}</{tag}></ref>'


def cite(number: int, label: str = "") -> str:
    return f'<xref ref-type="bibr" rid="B{number}">{label or number}</xref>'


def article(
    body: str = "",
    *,
    refs: str = "",
    title: str = "A trial",
    ids: str = "",
    abstract: str = "",
    dates: str = DATES,
) -> str:
    listed = refs or "".join(ref(number) for number in range(1, 10))
    return f"""<article xmlns:xlink="http://www.w3.org/1999/xlink"><front><article-meta>
{ids or '<article-id pub-id-type="pmid">77</article-id><article-id pub-id-type="pmc">PMC88</article-id>'}
<title-group><article-title>{title}</article-title></title-group>{dates}{abstract}</article-meta></front>
<body><sec><title>Results</title>{body}</sec></body>
<back><ref-list>{listed}</ref-list></back></article>"""


def record(number: int, *, cites: str = "", title: str = "A study", abstract: str = "What was found.") -> str:
    return f"""<PubmedArticle><MedlineCitation><PMID>{number}</PMID><Article><Journal><JournalIssue><PubDate>
<MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate></JournalIssue></Journal>
<ArticleTitle>{title}</ArticleTitle>
<Abstract><AbstractText>{abstract}</AbstractText></Abstract></Article></MedlineCitation>
<PubmedData>{cites}</PubmedData></PubmedArticle>"""


def listed(*numbers: int) -> str:
    refs = "".join(
        '<Reference><ArticleIdList><ArticleId IdType="doi">10.1/x</ArticleId>'
        f'<ArticleId IdType="pubmed">{number}</ArticleId></ArticleIdList></Reference>'
        for number in numbers
    )
    return f"<ReferenceList>{refs}</ReferenceList>"


def pubmed(*records: str) -> str:
    return f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "Heart failure"
    root.mkdir()
    return root


def read(*paths: Path, domain: str = "") -> list[Article | Rejected]:
    return list(read_jats_articles(paths, domain=domain))


def one(folder: Path, text: str) -> Article:
    (folder / "one.nxml").write_text(text, encoding="utf8")
    (found,) = read(folder / "one.nxml")
    assert isinstance(found, Article)
    return found


def brackets(folder: Path, body: str, *, refs: str = "") -> list[list[int]]:
    """Groups by the numbers in the list of references."""
    groups = one(folder, article(body, refs=refs)).brackets
    return [[int(name.removeprefix("pmid:")) for name in group] for group in groups]


def reasons(*paths: Path) -> list[str]:
    return [item.reason for item in read(*paths) if isinstance(item, Rejected)]


# --- articles ---------------------------------------------------------------------------------------------


def test_an_article_has_its_ids_texts_date_and_references(folder: Path) -> None:
    abstract = """<abstract><title>Abstract</title>
<sec><title>Aim</title><p>To <italic>know</italic>.</p></sec>
<sec><title>Result:</title><p>It is so.</p><p>Still.</p></sec></abstract>
<abstract abstract-type="graphical"><p>picture</p></abstract>"""
    text = article(
        f"<p>As before {cite(1)}.</p>",
        title="Salt&#160;and <sup>22</sup>Na",
        abstract=abstract,
        refs=ref(1) + ref(2, title="A <italic>longer</italic> one"),
    )
    assert one(folder, text) == Article(
        id="pmid:77",
        title="Salt and 22Na",
        abstract="Aim: To know. Result: It is so. Still.",
        domain="heart-failure",
        references=(Reference("pmid:1", "Paper 1"), Reference("pmid:2", "A longer one")),
        date="2018-03-05",
        pmid="77",
    )


@pytest.mark.parametrize(
    ("ids", "name"),
    [
        ('<article-id pub-id-type="pmc">PMC88</article-id>', "pmc:88"),
        ('<article-id pub-id-type="pmcid">PMC88</article-id>', "pmc:88"),
        ('<article-id pub-id-type="doi">10.1/AbC</article-id>', "doi:10.1/abc"),
    ],
)
def test_a_paper_is_named_alike_as_article_and_as_reference(folder: Path, ids: str, name: str) -> None:
    refs = ref(1, ids=ids.replace("article-id", "pub-id"))
    found = one(folder, article(ids=ids, refs=refs))
    assert (found.id, found.references[0].id) == (name, name)


def test_a_paper_without_any_number_is_named_by_its_title(folder: Path) -> None:
    refs = (
        ref(1, ids="<year/>", title="On Salt")
        + ref(2, ids="<year/>", title="ON SALT")
        + ref(3, ids="<year/>")
    )
    names = [reference.id for reference in one(folder, article(refs=refs)).references]
    assert len(names) == 2
    assert all(name.startswith("title:") for name in names)


@pytest.mark.parametrize(
    ("dates", "date"),
    [
        ('<pub-date date-type="pub"><year>2020</year><month>Nov</month></pub-date>', "2020-11"),
        ('<pub-date pub-type="ppub"><year>2020</year><month>2</month><day>31</day></pub-date>', "2020-02"),
        ("<pub-date><year>2020</year><season>Winter</season></pub-date>", "2020"),
        ("<pub-date><year>soon</year></pub-date>", ""),
        ("", ""),
    ],
)
def test_a_date_is_as_exact_as_it_is_known(folder: Path, dates: str, date: str) -> None:
    assert one(folder, article(dates=dates)).date == date


def test_references_in_every_form_are_read_once(folder: Path) -> None:
    said = '<article-title>Paper 2</article-title><pub-id pub-id-type="pmid">2</pub-id>'
    forms = f"<element-citation>{said}</element-citation><mixed-citation>{said}</mixed-citation>"
    refs = (
        ref(1, tag="mixed-citation")
        + f'<ref id="B2"><citation-alternatives>{forms}</citation-alternatives></ref>'
        + ref(3, tag="citation")
        + ref(4, tag="nlm-citation")
        + ref(1)
        + '<ref id="B6"><mixed-citation>A book without a title of its own</mixed-citation></ref>'
    )
    found = one(folder, article(refs=refs))
    assert [reference.title for reference in found.references] == ["Paper 1", "Paper 2", "Paper 3", "Paper 4"]


def test_an_entry_of_the_list_may_hold_several_papers(folder: Path) -> None:
    two = ref(1).replace("</ref>", "") + ref(2).partition("</label>")[2]
    found = one(folder, article(f"<p>{cite(1)}</p>", refs=two))
    assert [reference.id for reference in found.references] == ["pmid:1", "pmid:2"]
    assert found.brackets == (("pmid:1", "pmid:2"),)


def test_a_set_of_articles_is_read_one_by_one(folder: Path) -> None:
    numbered = [article(ids=f'<article-id pub-id-type="pmid">{number}</article-id>') for number in (5, 6)]
    (folder / "set.xml").write_text(f"<pmc-articleset>{''.join(numbered)}</pmc-articleset>")
    assert [item.id for item in read(folder) if isinstance(item, Article)] == ["pmid:5", "pmid:6"]


def test_what_is_read_is_written_and_read_back(folder: Path, tmp_path: Path) -> None:
    found = one(folder, article(f"<p>[{cite(1)}, {cite(2)}]</p>"))
    write_articles(tmp_path / "articles.jsonl", [found])
    assert list(read_articles(tmp_path / "articles.jsonl")) == [found]


def test_the_domain_is_that_of_the_caller_or_the_folder(folder: Path) -> None:
    (folder / "Left ventricle").mkdir()
    (folder / "Left ventricle" / "a.xml").write_text(article())
    assert [item.domain for item in read(folder) if isinstance(item, Article)] == ["left-ventricle"]
    assert [item.domain for item in read(folder, domain="CVD") if isinstance(item, Article)] == ["cvd"]


def test_memory_does_not_grow_with_the_number_of_articles(folder: Path) -> None:
    body = "<p>" + "Words upon words. " * 2_000 + "</p>"
    (folder / "set.xml").write_text("<pmc-articleset>" + article(body) * 400 + "</pmc-articleset>")  # 15 MB
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_jats_articles([folder])) == 400
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


# --- brackets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        (f"[{cite(1)}, {cite(2)}]", [[1, 2]]),
        (f"{cite(1, '[1]')}, {cite(2, '[2]')}", [[1, 2]]),
        (f"{cite(1, '[1]')}{cite(2, '[2]')}", [[1, 2]]),
        (f"<sup>{cite(4)},{cite(2)},{cite(9)}</sup>", [[4, 2, 9]]),
        (f"{cite(1, '<sup>1</sup>')}<sup>,</sup>{cite(2, '<sup>2</sup>')}", [[1, 2]]),
        (f"({cite(1, 'Lee 2001')}; {cite(2, 'Kim 2002')})", [[1, 2]]),
        (f"({cite(1, 'Lee 2001')} and {cite(2, 'Kim 2002')})", [[1, 2]]),
        (f"<sup>{cite(1)} and {cite(2)}</sup>", [[1, 2]]),
        (f"[{cite(3)}–{cite(7)}]", [[3, 4, 5, 6, 7]]),
        (f"{cite(3, '[3]')}-{cite(5, '[5]')}", [[3, 4, 5]]),
        (f"[{cite(1)}, {cite(3)}–{cite(5)}, {cite(9)}]", [[1, 3, 4, 5, 9]]),
        (f"[{cite(3, '3–6')}]", [[3, 4, 5, 6]]),
        (f"[{cite(1)}, {cite(1)}, {cite(2)}]", [[1, 2]]),
        ('<xref ref-type="bibr" rid="B1 B2">1, 2</xref>', [[1, 2]]),
        (f"[{cite(1)},{cite(2)}] and so [{cite(3)},{cite(4)}]", [[1, 2], [3, 4]]),
    ],
)
def test_what_stands_in_one_bracket_is_cited_together(
    folder: Path, text: str, groups: list[list[int]]
) -> None:
    assert brackets(folder, f"<p>As was found {text}.</p>") == groups


@pytest.mark.parametrize(
    "text",
    [
        f"[{cite(1)}]",
        f"[{cite(1)}] but not [{cite(2)}]",
        f"{cite(1, 'Lee (2001)')} and {cite(2, 'Kim (2002)')}",
        f"[{cite(1)}]. [{cite(2)}]",
        f"[{cite(1)}]</p><p>[{cite(2)}]",
        f'[{cite(1)}, <xref ref-type="fig" rid="F1">Fig 1</xref>, {cite(2)}]',
        f"[{cite(1)}, {cite(44)}]",
    ],
    ids=["alone", "two brackets", "a sentence", "two sentences", "two paragraphs", "a figure", "dangling"],
)
def test_what_stands_apart_is_not_cited_together(folder: Path, text: str) -> None:
    assert brackets(folder, f"<p>As was found {text}.</p>") == []


def test_a_dash_between_names_is_no_range(folder: Path) -> None:
    assert brackets(folder, f"<p>({cite(1, 'Lee')} – {cite(5, 'Kim')})</p>") == [[1, 5]]


def test_a_range_of_years_is_no_range_of_references(folder: Path) -> None:
    assert brackets(folder, f"<p>{cite(1, '2010–2014')}</p>") == []


def test_a_range_that_no_one_would_cite_is_not_filled(folder: Path) -> None:
    refs = "".join(ref(number) for number in range(1, 200))
    assert brackets(folder, f"<p>[{cite(1)}–{cite(150)}]</p>", refs=refs) == [[1, 150]]


def test_a_reference_without_a_title_keeps_its_place_in_a_range(folder: Path) -> None:
    book = '<ref id="B2"><label>2</label><mixed-citation>A book</mixed-citation></ref>'
    assert brackets(folder, f"<p>[{cite(1)}–{cite(3)}]</p>", refs=ref(1) + book + ref(3)) == [[1, 3]]


def test_brackets_in_tables_and_lists_end_with_their_cell(folder: Path) -> None:
    row = f"<tr><td>{cite(1)}</td><td>{cite(2)}, {cite(3)}</td></tr>"
    assert brackets(folder, f"<table-wrap><table><tbody>{row}</tbody></table></table-wrap>") == [[2, 3]]


# --- PubMed -----------------------------------------------------------------------------------------------


def test_records_of_pubmed_cite_what_lies_beside_them(folder: Path) -> None:
    (folder / "a.xml").write_text(pubmed(record(1, cites=listed(3, 2, 404, 1))))
    (folder / "b.xml").write_text(pubmed(record(2, title="Two"), record(3, title="Three", abstract="Why.")))
    found = read(folder)
    assert found[0] == Article(
        id="pmid:1",
        title="A study",
        abstract="What was found.",
        domain="heart-failure",
        references=(Reference("pmid:3", "Three", "Why."), Reference("pmid:2", "Two", "What was found.")),
        date="1998",
        pmid="1",
    )
    assert reasons(folder) == [f"pmid:{number}: no references whose titles are known" for number in (2, 3)]


def test_older_records_list_what_they_cite_among_their_comments(folder: Path) -> None:
    older = record(1).replace(
        "</MedlineCitation>",
        """<CommentsCorrectionsList><CommentsCorrections RefType="Cites"><PMID>2</PMID></CommentsCorrections>
<CommentsCorrections RefType="ErratumIn"><PMID>3</PMID></CommentsCorrections></CommentsCorrectionsList>
</MedlineCitation>""",
    )
    (folder / "a.xml").write_text(pubmed(older, record(2, title="Two"), record(3, title="Three")))
    assert [item.references for item in read(folder) if isinstance(item, Article)] == [
        (Reference("pmid:2", "Two", "What was found."),)
    ]


# --- bad input --------------------------------------------------------------------------------------------


def test_an_article_without_title_or_references_is_rejected_by_name(folder: Path) -> None:
    (folder / "a.xml").write_text(article(title=""))
    (folder / "b.xml").write_text(article(refs="<ref/>"))
    assert reasons(folder) == ["pmid:77: no title", "pmid:77: no references whose titles are known"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (article()[:-40], "not well-formed XML"),
        ("<html/>", "XML of an unknown kind: <html>"),
        ('<!DOCTYPE article [<!ENTITY a "b">]>' + article(), "declares XML entities"),
        ("", "not well-formed XML"),
        ("<PubmedArticleSet/>", "no articles in it"),
    ],
)
def test_a_file_that_is_none_is_rejected_and_the_others_go_on(folder: Path, text: str, reason: str) -> None:
    (folder / "a.xml").write_text(text)
    (folder / "b.xml").write_text(article())
    first, second = read(folder)
    assert isinstance(first, Rejected)
    assert first.reason.startswith(reason)
    assert isinstance(second, Article)


def test_a_cut_set_of_records_gives_those_before(folder: Path) -> None:
    whole = pubmed(record(1, cites=listed(2)), record(2, title="Two"), record(3))
    (folder / "a.xml").write_text(whole[:-100])
    first, *others = read(folder)
    assert isinstance(first, Article)
    assert [item.reason for item in others if isinstance(item, Rejected)][-1].startswith("not well-formed")


def test_a_record_larger_than_the_limit_is_rejected(folder: Path) -> None:
    big = article("<p>" + "x" * 3_000_000 + "</p>")
    (folder / "a.xml").write_text(f"<pmc-articleset>{big}</pmc-articleset>")
    (found,) = read_jats_articles([folder], limits=Limits(record_bytes=100_000))
    assert isinstance(found, Rejected)
    assert "a record larger than 100,000 bytes" in found.reason


def test_a_folder_whose_name_is_no_domain_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "___").mkdir()
    (tmp_path / "___" / "a.xml").write_text(article())
    assert reasons(tmp_path / "___") == [
        "the folder's name gives no domain name; rename it, or give the domain"
    ]


def test_other_files_of_a_folder_are_passed_over(folder: Path) -> None:
    (folder / "notes.txt").write_text("not XML")
    (folder / "a.xml").write_text(article())
    assert len(read(folder)) == 1


def test_a_path_that_is_not_there_or_no_xml_is_refused(folder: Path) -> None:
    (folder / "notes.txt").write_text("not XML")
    with pytest.raises(UsageError, match=r"gone\.xml is not there; give XML files"):
        read_jats_articles([folder / "gone.xml"])
    with pytest.raises(UsageError, match=r"notes\.txt is no XML file"):
        read_jats_articles([folder / "notes.txt"])


def test_a_domain_that_is_no_name_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="'---' gives no domain name"):
        read_jats_articles([folder], domain="---")
