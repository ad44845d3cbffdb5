"""JATS and PubMed."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
from reading import document, documents, headed, put, read, reasons

from moe_retrieval.corpus.readers import Limits, read_corpus
from moe_retrieval.types import Document

DOCTYPE = (
    '<!DOCTYPE article PUBLIC "-//NLM//DTD JATS (Z39.96) Journal Archiving DTD v1.2 20190208//EN" '
    '"http://203.0.113.1/JATS-archivearticle1.dtd">'
)
ARTICLE = """<article xmlns:xlink="http://www.w3.org/1999/xlink"><front>
<journal-meta><journal-title-group><journal-title>BMJ</journal-title></journal-title-group></journal-meta>
<article-meta><article-id pub-id-type="pmid">123</article-id><article-id pub-id-type="pmc">PMC9</article-id>
<article-id pub-id-type="doi">10.1/x</article-id>
<title-group><article-title>Aspirin&nbsp;and <italic>stroke</italic></article-title></title-group>
<pub-date pub-type="epub"><day>1</day><year>2019</year></pub-date>
<abstract><title>Abstract</title><sec><title>Aim</title><p>To know.</p></sec></abstract>
<abstract abstract-type="graphical"><p>picture</p></abstract>
<kwd-group><kwd>aspirin</kwd><kwd>stroke</kwd></kwd-group></article-meta></front>
<body><p>Lead-in.</p><sec><title>Methods</title><p>H<sub>2</sub>O <xref>[1]</xref>.</p>
<sec><title>Sampling</title><p>At random.</p><list>
<list-item><p>one</p></list-item><list-item><p>two</p></list-item></list>
</sec><p>More methods.</p></sec>
<sec><title>Results</title><table-wrap><caption><p>Table of doses</p></caption><table><tbody>
<tr><td>a</td><td>b</td></tr></tbody></table></table-wrap></sec></body>
<back><ref-list><ref><mixed-citation>Not this</mixed-citation></ref></ref-list></back></article>"""


PLAIN = "<AbstractText>Text.</AbstractText>"


def record(
    number: int, *, title: str = "A trial", abstract: str = "<AbstractText>Text.</AbstractText>"
) -> str:
    return f"""<PubmedArticle><MedlineCitation><PMID>{number}</PMID><Article><Journal><JournalIssue><PubDate>
<MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate></JournalIssue><Title>Lancet</Title></Journal>
<ArticleTitle>{title}</ArticleTitle><Abstract>{abstract}</Abstract></Article>
<CommentsCorrectionsList>
<CommentsCorrections><PMID>777</PMID></CommentsCorrections></CommentsCorrectionsList>
<MeshHeadingList><MeshHeading><DescriptorName>Stroke</DescriptorName>
<QualifierName>x</QualifierName>
</MeshHeading>
</MeshHeadingList></MedlineCitation>
<PubmedData><ArticleIdList><ArticleId IdType="doi">10.2/{number}</ArticleId>
</ArticleIdList></PubmedData></PubmedArticle>"""


def pubmed(*records: str) -> str:
    return f'<?xml version="1.0"?><PubmedArticleSet>{"".join(records)}</PubmedArticleSet>'


def test_a_jats_article_has_title_sections_and_metadata(tmp_path: Path) -> None:
    found = document(put(tmp_path / "a.nxml", DOCTYPE + ARTICLE))
    assert (found.id, found.title) == ("a.nxml", "Aspirin and stroke")
    assert found.metadata == {
        "pmid": "123", "pmcid": "PMC9", "doi": "10.1/x", "journal": "BMJ", "year": 2019,
        "keywords": ["aspirin", "stroke"],
    }  # fmt: skip
    assert headed(found) == [
        ("Abstract > Aim", "Aim\n\nTo know."),
        ("", "Lead-in."),
        ("Methods", "Methods\n\nH2O [1]."),
        ("Methods > Sampling", "Sampling\n\nAt random.\n\none\n\ntwo"),
        ("Methods", "More methods."),
        ("Results", "Results\n\nTable of doses\n\na\tb"),
    ]


def test_many_articles_in_one_file_are_named_by_their_own_ids(tmp_path: Path) -> None:
    bare = ARTICLE.replace("&nbsp;", " ")
    other = bare.replace("PMC9", "PMC10")
    path = put(tmp_path / "a.xml", f"<pmc-articleset>{bare}{other}</pmc-articleset>")
    assert [item.id for item in documents(path)] == ["PMC9", "PMC10"]


def test_jats_in_a_namespace_is_read(tmp_path: Path) -> None:
    spaced = ARTICLE.replace("<article ", '<article xmlns="https://jats.nlm.nih.gov/ns" ').replace(
        "&nbsp;", " "
    )
    assert document(put(tmp_path / "a.xml", spaced)).title == "Aspirin and stroke"


def test_a_pubmed_record_has_its_labels_as_sections(tmp_path: Path) -> None:
    labelled = '<AbstractText Label="METHODS">We <b>looked</b>.</AbstractText>'
    labelled += '<AbstractText Label="X">Yes.</AbstractText>'
    found = document(put(tmp_path / "a.xml", pubmed(record(5, abstract=labelled))))
    assert (found.id, found.title) == ("5", "A trial")
    assert headed(found) == [("Methods", "Methods\nWe looked."), ("X", "X\nYes.")]
    assert found.metadata == {
        "pmid": "5",
        "doi": "10.2/5",
        "journal": "Lancet",
        "year": 1998,
        "mesh": ["Stroke"],
    }


def test_a_pubmed_record_without_abstract_is_its_title_and_without_both_is_rejected(
    tmp_path: Path,
) -> None:
    path = put(
        tmp_path / "a.xml", pubmed(record(1, abstract=""), record(2, title="", abstract=""), record(3))
    )
    assert [item.text for item in read(path) if isinstance(item, Document)] == ["A trial", "Text."]
    assert reasons(path) == ["2: neither a title nor an abstract nor a body"]


def test_an_article_without_words_is_rejected_as_its_file(tmp_path: Path) -> None:
    path = put(tmp_path / "a.xml", "<article><front/></article>")
    assert reasons(path) == ["neither a title nor an abstract nor a body"]


def test_a_truncated_file_gives_the_records_before_the_break(tmp_path: Path) -> None:
    path = put(tmp_path / "a.xml", pubmed(record(1), record(2), record(3))[:-400])
    assert [item.id for item in read(path) if isinstance(item, Document)] == ["1", "2"]
    assert reasons(path)[0].startswith("not well-formed XML after 2 records")


@pytest.mark.parametrize(
    ("declaration", "reason"),
    [
        ('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>', "entities"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "entities"),
        ('<!DOCTYPE x [<!ENTITY % p SYSTEM "http://203.0.113.1/x"> %p;]>', "entities"),
    ],
)
def test_entities_are_refused(tmp_path: Path, declaration: str, reason: str) -> None:
    text = f"{declaration}<article><body><p>&a;</p></body></article>"
    assert reason in reasons(put(tmp_path / "a.xml", text))[0]


def test_xml_of_another_kind_is_rejected_by_name(tmp_path: Path) -> None:
    assert reasons(put(tmp_path / "a.xml", "<rss><item>x</item></rss>")) == [
        "XML of an unknown kind: <rss>, not <article> or <PubmedArticleSet>"
    ]


@pytest.mark.parametrize(
    "text", ["<a>" * 50_000, "<article>" * 50_000, "<article" + " x" * 9, "no xml", "<article/>"]
)
def test_broken_or_deep_xml_is_one_rejection(tmp_path: Path, text: str) -> None:
    assert len(reasons(put(tmp_path / "a.xml", text))) == 1


def test_a_long_token_is_not_scanned_again_and_again(tmp_path: Path) -> None:
    path = put(tmp_path / "a.xml", '<article a="' + "x" * 15_000_000)
    began = time.process_time()
    assert len(reasons(path)) == 1
    assert time.process_time() - began < 5


def test_a_record_that_is_too_large_stops_the_file(tmp_path: Path) -> None:
    path = put(tmp_path / "a.xml", pubmed(record(1), record(2, title="x" * 5_000_000)))
    assert any("larger than" in reason for reason in reasons(path, limits=Limits(record_bytes=1_000_000)))


def test_memory_does_not_grow_with_the_number_of_pubmed_records(tmp_path: Path) -> None:
    body = f"<AbstractText>{'word ' * 1_000}</AbstractText>"
    peaks = []
    for number in (300, 900):  # 2 and 5 MB: both more than one block
        path = put(
            tmp_path / f"{number}.xml", pubmed(*(record(pmid, abstract=body) for pmid in range(number)))
        )
        tracemalloc.start()
        assert sum(1 for _ in read_corpus([str(path)])) == number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
