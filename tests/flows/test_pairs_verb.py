"""`moeret pairs build`: what it writes, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moe_retrieval.corpus.pairs import Split, read_pairs
from moe_retrieval.training.pairs.splits import check_disjoint
from tests.program import ROOT, run_moeret


@pytest.fixture
def cited(tmp_path: Path) -> Path:
    """A citation file of two domains, 30 articles each, and one that is held out."""
    records = [
        {
            "_id": f"{domain}{n}",
            "title": f"a trial of {domain} {n}",
            "abstract": f"what trial {n} of {domain} found",
            "domain": domain,
            "references": [
                {"_id": f"{domain}{n}r{k}", "title": f"paper {k} before {domain} {n}"} for k in range(3)
            ],
            "brackets": [[f"{domain}{n}r0", f"{domain}{n}r1", "nowhere"]],
            "in_dev_queries": n == 30,
        }
        for domain in ("cvd", "lung")
        for n in range(31 if domain == "cvd" else 30)
    ]
    path = tmp_path / "articles.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_citation_file_becomes_a_folder_of_pairs_and_a_table(cited: Path, tmp_path: Path) -> None:
    done = run_moeret("pairs", "build", cited, "-o", tmp_path / "new")
    assert done.code == 0, done.err
    head, cvd, lung, end = done.out.splitlines()
    assert head.split() == ["domain", "train", "validation", "test", "labels", "1", ":", "0", "kinds"]
    assert cvd.split() == ["cvd", "96", "12", "12", "120", ":", "0", "cited-title,", "same-bracket"]
    assert lung.split()[:4] == ["lung", "96", "12", "12"]
    assert end.startswith("240 pairs of 2 domains in ")
    assert "moeret: left out 60: dangling bracket ids" in done.err
    assert "moeret: left out 1: articles held out" in done.err
    assert "moeret: warning: all labels are 1" in done.err
    check_disjoint(*(read_pairs(tmp_path / "new" / f"{split}.jsonl") for split in Split))


def test_json_is_the_report_that_lies_beside_the_pairs(cited: Path, tmp_path: Path) -> None:
    done = run_moeret("pairs", "build", cited, "-o", tmp_path / "new", "--json", "-q")
    (told,) = done.records()
    assert told == json.loads((tmp_path / "new" / "report.json").read_text())
    assert done.err == ""


def test_every_option_reaches_the_pairs(cited: Path, tmp_path: Path) -> None:
    words = ["--kinds", "cited-title", "--domains", "cvd", "--negatives", "1", "--seed", "3"]
    words += [
        "--max-pairs",
        "60",
        "--validation",
        "0.2",
        "--test",
        "0",
        "--include-held-out",
        "--from",
        "citations",
    ]
    done = run_moeret("pairs", "build", cited, "-o", tmp_path / "new", "--json", *words)
    (told,) = done.records()
    assert told["counts"] == {
        "cvd": {"train": {"cited-title": 96}, "validation": {"cited-title": 24}, "test": {}}
    }
    assert told["labels"]["cvd"]["train"] == {"0": 48, "1": 48}
    assert (told["seed"], told["dropped"]["over the cap of a domain"]) == (3, 33)


def test_a_cap_for_hubs_and_a_count_of_citing_articles_are_kept_to(cited: Path, tmp_path: Path) -> None:
    words = ["--kinds", "same-bracket", "--min-cocitations", "2"]
    done = run_moeret("pairs", "build", cited, "-o", tmp_path / "new", *words)
    assert (done.code, "no pairs are left" in done.err) == (2, True)
    assert "cited together too seldom (60)" in done.err
    done = run_moeret("pairs", "build", cited, "-o", tmp_path / "new", "--hub-cap", "0")
    assert done.code == 2


def test_excluded_documents_are_kept_out(cited: Path, tmp_path: Path) -> None:
    one = {"a": "a text to judge by", "b": "another one", "a_id": "lung0", "b_id": "cvd1r0"}
    (tmp_path / "judged.jsonl").write_text(json.dumps(one))
    done = run_moeret(
        "pairs", "build", cited, "-o", tmp_path / "new", "--exclude", tmp_path / "judged.jsonl", "--json"
    )
    (told,) = done.records()
    assert (told["pairs"], told["options"]["exclude"]) == (240 - 4 - 2, [str(tmp_path / "judged.jsonl")])


def test_several_sources_and_a_domain_for_all(cited: Path, tmp_path: Path) -> None:
    ready = [{"a": f"question number {n}", "b": f"answer number {n}", "date": "2001"} for n in range(60)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, ready)))
    sources = [cited, tmp_path / "pairs.jsonl"]
    done = run_moeret("pairs", "build", *sources, "-o", tmp_path / "new", "--domain", "Trials", "--json")
    (told,) = done.records()
    assert (list(told["counts"]), told["pairs"]) == (["trials"], 300)
    assert [one["kind"] for one in told["sources"]] == ["citations", "pairs"]


def test_plain_documents_need_no_labels(tmp_path: Path) -> None:
    done = run_moeret("pairs", "build", ROOT / "sample_corpora", "-o", tmp_path / "new", "--json")
    assert done.code == 0, done.err
    (told,) = done.records()
    folders = {path.name for path in (ROOT / "sample_corpora").iterdir() if path.is_dir()}
    assert set(told["counts"]) == folders
    assert told["sources"][0]["kind"] == "documents"


def test_what_cannot_be_built_ends_with_a_sentence_and_a_next_step(cited: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text(cited.read_text() + '{"_id": "x", "references": 3}\n')
    new = tmp_path / "new"
    orders: list[tuple[list[object], int, str]] = [
        ([cited, "-o", tmp_path / "full"], 2, "is there already and not empty"),
        ([tmp_path / "gone.jsonl", "-o", new], 3, "there is no file or folder"),
        ([damaged, "-o", new], 2, "line 62 is no article: its references are no list"),
        ([cited, "-o", new, "--domains", "lungs"], 2, "did you mean 'lung'?"),
        ([cited, "-o", new, "--kinds", "title-body"], 2, "no kind of pair is called 'title-body'"),
        ([cited, "-o", new, "--validation", "0.5", "--test", "0.5"], 2, "leave nothing to train on"),
        ([cited, "-o", new, "--by-time"], 2, "240 of 240 pairs have no date"),
        ([cited, "-o", new, "--keep-splits"], 2, "do not say which split"),
        ([cited, "-o", new, "--exclude", tmp_path / "gone"], 2, "to exclude"),
        ([cited, "-o", new, "--domain", "?"], 2, "gives no domain name"),
        (["someone/pairs", "--from", "hub", "-o", new], 2, "is not pinned"),
    ]
    for words, code, said in orders:
        done = run_moeret("pairs", "build", *words)
        assert (done.code, said in done.err, "next: " in done.err) == (code, True, True), (words, done.err)
    assert not new.exists()
