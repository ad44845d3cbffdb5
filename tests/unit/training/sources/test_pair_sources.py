"""Sources of pairs: what a path is taken for, and the pairs that come from it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from moe_retrieval.corpus.pairs import Pair, Split, read_pairs, write_pairs
from moe_retrieval.errors import NothingFoundError, UsageError
from moe_retrieval.training.pairs.build import BuildOptions
from moe_retrieval.training.sources.citations import read_articles
from moe_retrieval.training.sources.judged import judged_pairs
from moe_retrieval.training.sources.kinds import SourceKind, kind_of
from moe_retrieval.training.sources.reading import SourceOptions, build_from, pairs_from
from tests.program import ROOT

CITATIONS = ROOT.parent / "shared" / "data" / "citations" / "articles.jsonl"
ARTICLE = {
    "_id": "a",
    "title": "a title",
    "abstract": "",
    "domain": "cvd",
    "references": [{"_id": f"r{n}", "title": f"title number {n}"} for n in range(3)],
    "brackets": [["r0", "r1"]],
}


def lines(path: Path, *records: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def collection(folder: Path, *, judged: str = "q\t1\t1\nq\t2\t0\nq\tgone\t2\np:1\td:3\t2\n") -> Path:
    texts = {"1": "first", "2": "second", "d:3": "third"}
    lines(
        folder / "corpus.jsonl",
        *({"_id": k, "title": "the", "text": v, "domain": "lung"} for k, v in texts.items()),
    )
    lines(
        folder / "queries.jsonl",
        {"_id": "q", "text": "which", "domain": "cvd"},
        {"_id": "p:1", "text": "who"},
    )
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return folder


def test_a_path_is_taken_for_what_it_holds(tmp_path: Path) -> None:
    found = {
        lines(tmp_path / "cited.jsonl", ARTICLE): SourceKind.CITATIONS,
        lines(tmp_path / "pairs.jsonl", {"a": "x", "b": "y"}): SourceKind.PAIRS,
        lines(tmp_path / "documents.jsonl", {"_id": "1", "text": "x"}): SourceKind.DOCUMENTS,
        lines(tmp_path / "list.jsonl", [1]): SourceKind.PAIRS,
        lines(tmp_path / "one.nxml"): SourceKind.ARTICLES,
        lines(tmp_path / "note.md"): SourceKind.DOCUMENTS,
        collection(tmp_path / "judged"): SourceKind.QRELS,
        lines(tmp_path / "built" / "train.jsonl").parent: SourceKind.PAIRS,
        lines(tmp_path / "xml" / "deep" / "one.xml").parent.parent: SourceKind.ARTICLES,
        lines(tmp_path / "texts" / "one.txt").parent: SourceKind.DOCUMENTS,
    }
    assert {path: kind_of(str(path)) for path in found} == found


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NothingFoundError, match="there is no file or folder gone") as raised:
        pairs_from("gone", seed=0)
    assert "--from hub" in raised.value.hint


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match=r"bytes.jsonl cannot be read"):
        pairs_from(str(tmp_path / "bytes.jsonl"), seed=0)


def test_a_damaged_line_of_pairs_is_named(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"a": "x", "b": "y"}\n{"a": "x", "b"')
    with pytest.raises(UsageError, match=r"pairs.jsonl, line 2 is no JSON"):
        pairs_from(str(tmp_path / "pairs.jsonl"), seed=0)


def test_judgements_become_pairs_with_their_labels(tmp_path: Path) -> None:
    found = judged_pairs(collection(tmp_path / "judged"))
    assert [(one.a, one.b, one.label, one.domain) for one in found.pairs] == [
        ("which", "the first", 1, "cvd"),
        ("which", "the second", 0, "cvd"),
        ("who", "the third", 1, "lung"),
    ]
    assert [one.documents for one in found.pairs] == [
        ("judged:query:q", "judged:1"),
        ("judged:query:q", "judged:2"),
        ("p:1", "d:3"),
    ]
    assert found.groups == ("judged:query:q", "judged:query:q", "p:1")
    assert found.dropped == {"dangling qrels ids": 1}


def test_ids_of_two_collections_that_count_from_one_are_not_the_same(tmp_path: Path) -> None:
    one, other = (pairs_from(str(collection(tmp_path / name)), seed=0) for name in ("one", "other"))
    assert {p.documents for p in one.pairs} & {p.documents for p in other.pairs} == {("p:1", "d:3")}


def test_citations_bring_their_groups_and_who_is_cited_together(tmp_path: Path) -> None:
    found = pairs_from(str(lines(tmp_path / "cited.jsonl", ARTICLE)), seed=0)
    assert [one.kind for one in found.pairs] == ["cited-title"] * 3 + ["same-bracket"]
    assert set(found.groups or ()) == {"a"}
    assert found.together is not None
    assert found.together("r0", "r2")
    assert not found.together("r0", "elsewhere")


def test_kinds_and_domain_are_those_asked_for(tmp_path: Path) -> None:
    options = SourceOptions(kinds=("same-bracket",), domain="Heart Failure")
    found = pairs_from(str(lines(tmp_path / "cited.jsonl", ARTICLE)), options=options, seed=0)
    assert [(one.kind, one.domain) for one in found.pairs] == [("same-bracket", "heart-failure")]


def test_ready_pairs_of_another_kind_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, [Pair("one text", "another", kind="x"), Pair("third text", "fourth", kind="y")])
    found = pairs_from(str(path), options=SourceOptions(kinds=("x",)), seed=0)
    assert ([one.kind for one in found.pairs], found.dropped) == (["x"], {"of another kind": 1})


def test_a_kind_that_citations_do_not_have_is_refused(tmp_path: Path) -> None:
    path = str(lines(tmp_path / "cited.jsonl", ARTICLE))
    with pytest.raises(UsageError, match="no kind of pair is called 'cited-titles'") as raised:
        pairs_from(path, options=SourceOptions(kinds=("cited-titles",)), seed=0)
    assert raised.value.hint == "did you mean 'cited-title'?"


def test_a_domain_that_gives_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'\?\?' gives no domain name"):
        pairs_from("gone", options=SourceOptions(domain="??"), seed=0)


def test_documents_need_no_labels_and_folders_are_domains(tmp_path: Path) -> None:
    for domain in ("cvd", "lung"):
        text = f"# The title of {domain}\n\n" + "Aspirin lowers the risk. It may cause bleeding in some. " * 4
        (tmp_path / "texts" / domain).mkdir(parents=True)
        (tmp_path / "texts" / domain / "one.md").write_text(text)
    found = pairs_from(str(tmp_path / "texts"), options=SourceOptions(kinds=("title-body",)), seed=0)
    assert {(one.kind, one.domain) for one in found.pairs} == {("title-body", "cvd"), ("title-body", "lung")}


XML = """<article><front><article-meta><article-id pub-id-type="pmid">{n}</article-id>
<title-group><article-title>Aspirin and the heart, part {n}</article-title></title-group>
<abstract><p>Aspirin lowers the risk of stroke. It may cause bleeding in some people, most of all in old age,
and it is not for everyone. Part {n} of this work tells when to take it and when to take none.</p></abstract>
</article-meta></front>{back}</article>"""
BACK = """<back><ref-list><ref id="B1"><element-citation><article-title>A trial of aspirin</article-title>
<pub-id pub-id-type="pmid">77</pub-id></element-citation></ref></ref-list></back>"""


@pytest.mark.parametrize(("back", "kind"), [(BACK, "articles"), ("", "documents")])
def test_xml_gives_pairs_of_its_references_else_of_its_texts(tmp_path: Path, back: str, kind: str) -> None:
    (tmp_path / "xml" / "cvd").mkdir(parents=True)
    for n in (1, 2):
        (tmp_path / "xml" / "cvd" / f"{n}.nxml").write_text(XML.format(n=n, back=back))
    found = pairs_from(str(tmp_path / "xml"), seed=0)
    assert found.kind == kind
    assert {one.domain for one in found.pairs} == {"cvd"}
    titles = {one.b for one in found.pairs}
    assert ("A trial of aspirin" in titles) == bool(back)


def test_a_hub_data_set_needs_its_revision() -> None:
    with pytest.raises(UsageError, match="is not pinned"):
        pairs_from("someone/some-pairs", kind=SourceKind.HUB, seed=0)


@pytest.mark.parametrize("kind", [SourceKind.OPENALEX, SourceKind.PUBMED])
def test_a_search_needs_a_domain(tmp_path: Path, kind: SourceKind) -> None:
    options = SourceOptions(articles=tmp_path, email="me@example.org")
    with pytest.raises(UsageError, match="needs the domain"):
        pairs_from("aspirin", kind=kind, options=options, seed=0)


def test_the_address_is_not_in_the_report() -> None:
    assert "me@example.org" not in str(SourceOptions(email="me@example.org").to_dict())


def test_a_folder_of_pairs_can_be_split_again(tmp_path: Path) -> None:
    pairs = [Pair(f"question {n}", f"answer {n}", "cvd", a_id=f"q{n}", b_id=f"a{n}") for n in range(60)]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    build_from([str(tmp_path / "pairs.jsonl")], output=tmp_path / "one", seed=1)
    again = build_from([str(tmp_path / "one")], output=tmp_path / "again", seed=2)
    kept = build_from(
        [str(tmp_path / "one")], output=tmp_path / "kept", options=BuildOptions(keep_splits=True), seed=2
    )
    assert again.pairs == kept.pairs == 60
    test, resplit, still = (
        {one.a for one in read_pairs(tmp_path / name / "test.jsonl")} for name in ("one", "again", "kept")
    )
    assert test == still
    assert test != resplit


# --- the real thing -----------------------------------------------------------------------------------------

real = pytest.mark.skipif(not CITATIONS.is_file(), reason="the citation graph is not beside the project")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Pairs of the real citation graph without the documents of two test collections, and the seconds."""
    output = tmp_path_factory.mktemp("citations") / "pairs"
    started = time.process_time()
    build_from(
        [str(CITATIONS)],
        output=output,
        options=BuildOptions(negatives=1),
        exclude=[CITATIONS.parents[1] / "sysrev", CITATIONS.parents[1] / "cocitation_titles"],
        seed=1,
    )
    return output, time.process_time() - started


@real
def test_the_real_graph_takes_less_than_half_a_minute(built: tuple[Path, float]) -> None:
    assert built[1] < 30


@real
def test_equal_seeds_give_equal_files_of_the_real_graph(tmp_path: Path) -> None:
    options = BuildOptions(max_pairs=100, negatives=1)
    one, again, other = (
        build_from([str(CITATIONS)], output=tmp_path / name, options=options, seed=seed).files
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    )
    assert one == again
    assert not set(one.values()) & set(other.values())


def everything(folder: Path) -> list[Pair]:
    return [pair for split in Split for pair in read_pairs(folder / f"{split}.jsonl")]


@real
def test_no_excluded_document_and_no_held_out_article_is_in_pairs_of_the_real_graph(
    built: tuple[Path, float],
) -> None:
    excluded = {
        json.loads(line)["_id"]
        for name in ("sysrev", "cocitation_titles")
        for line in (CITATIONS.parents[1] / name / "corpus.jsonl").read_text("utf8").splitlines()
    }
    held_out = {one.id for one in read_articles(CITATIONS) if one.held_out}
    assert (len(excluded) > 20_000, len(held_out)) == (True, 578)
    used = {name for pair in everything(built[0]) for name in pair.documents}
    assert not used & (excluded | held_out)


@real
def test_most_pairs_of_every_large_domain_of_the_real_graph_survive(built: tuple[Path, float]) -> None:
    report = json.loads((built[0] / "report.json").read_text())
    lost = sum(number for reason, number in report["dropped"].items() if "another split" in reason)
    assert lost < 0.04 * report["pairs"]
    for domain, counts in report["counts"].items():
        validation, train = (sum(counts[split].values()) for split in ("validation", "train"))
        assert domain == "parasitic" or 0.05 < validation / train < 0.25, (domain, validation, train)
