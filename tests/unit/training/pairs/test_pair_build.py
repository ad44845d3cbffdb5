"""A folder of pairs: what gets in, what is counted as left out, and that it is there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from moe_retrieval.corpus.pairs import Pair, Split, read_pairs, write_pairs
from moe_retrieval.errors import MoeretError, UsageError
from moe_retrieval.hashing import file_sha256
from moe_retrieval.training.pairs.build import BuildOptions, PairSource, PairsReport, build_pairs
from moe_retrieval.training.pairs.exclusion import read_excluded
from moe_retrieval.training.pairs.splits import check_disjoint

FILES = ["report.json", "test.jsonl", "train.jsonl", "validation.jsonl"]


def pairs(count: int, *, domain: str = "cvd", start: int = 0, **more: object) -> list[Pair]:
    numbers = range(start, start + count)
    fields = {"domain": domain, "kind": "made"} | more
    return [
        Pair(
            f"question {domain} {n}",
            f"answer {domain} {n}",
            a_id=f"{domain}q{n}",
            b_id=f"{domain}a{n}",
            **fields,
        )  # type: ignore[arg-type]
        for n in numbers
    ]


def source(found: Sequence[Pair], **more: object) -> PairSource:
    return PairSource("file", "pairs", found, **more)  # type: ignore[arg-type]


def build(output: Path, *sources: PairSource, seed: int = 0, **options: object) -> PairsReport:
    return build_pairs(sources, output=output, options=BuildOptions(**options), seed=seed)  # type: ignore[arg-type]


def written(folder: Path) -> dict[Split, list[Pair]]:
    return {split: read_pairs(folder / f"{split}.jsonl") for split in Split}


def test_a_folder_holds_three_splits_and_a_report_that_tells_of_them(tmp_path: Path) -> None:
    report = build(tmp_path / "new", source(pairs(60) + pairs(100, domain="lung")))
    found = written(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == FILES
    check_disjoint(*found.values())
    assert all(pair.split is split for split in Split for pair in found[split])
    assert report.counts["lung"] == {"train": {"made": 80}, "validation": {"made": 10}, "test": {"made": 10}}
    assert report.labels["cvd"] == {"train": {"1": 48}, "validation": {"1": 6}, "test": {"1": 6}}
    assert (report.pairs, report.count("cvd", Split.TRAIN), report.dropped) == (160, 48, {})
    assert json.loads((tmp_path / "new" / "report.json").read_text()) == json.loads(
        json.dumps(report.to_dict())
    )


def test_the_report_has_the_hash_of_each_file_and_the_seed_decides_it(tmp_path: Path) -> None:
    one, again, other = (
        build(tmp_path / name, source(pairs(60)), seed=seed, negatives=1)
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    )
    assert one.files == {
        f"{split}.jsonl": file_sha256(tmp_path / "one" / f"{split}.jsonl") for split in Split
    }
    assert one.files == again.files
    assert not set(one.files.values()) & set(other.files.values())
    assert (tmp_path / "one" / "report.json").read_bytes() == (
        tmp_path / "again" / "report.json"
    ).read_bytes()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Pair("  ", "an answer of some length"), "a text is empty"),
        (Pair("The same text", "the SAME  text"), "both texts are the same"),
        (Pair("short", "an answer of some length"), "a text is shorter than 8 characters"),
        (Pair("half \ud835 a character", "an answer of some length"), "half a character (a lone surrogate)"),
        (replace(pairs(1)[0], a="ANSWER cvd  0", b="Question cvd 0"), "stands twice"),
        (replace(pairs(1)[0], label=0), "labelled 0, and 1 elsewhere"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_pair_that_cannot_be_used_is_left_out_and_counted(tmp_path: Path, bad: Pair, reason: str) -> None:
    report = build(tmp_path / "new", source([*pairs(60), replace(bad, domain="cvd")]))
    assert (report.pairs, report.dropped) == (60, {reason: 1})


def test_duplicates_are_found_across_sources_and_what_sources_dropped_is_told(tmp_path: Path) -> None:
    sources = [source(pairs(40), dropped={"dangling": 3}), source(pairs(40, start=30))]
    report = build(tmp_path / "new", *sources)
    assert (report.pairs, report.dropped) == (70, {"dangling": 3, "stands twice": 10})
    assert [one["pairs"] for one in report.sources] == [40, 40]


def test_excluded_documents_are_kept_out_by_id_and_by_text(tmp_path: Path) -> None:
    judged = tmp_path / "judged"
    judged.mkdir()
    records = [{"_id": "x:1", "title": "answer cvd", "text": "1"}, {"_id": "5", "text": "Answer  CVD 2"}]
    (judged / "corpus.jsonl").write_text("\n".join(map(json.dumps, records)))
    (judged / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "question cvd 3"}))
    (judged / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\t5\t1\n")
    by_id = replace(pairs(1)[0], a="quite another question", b="quite another answer", a_id="x:1")
    write_pairs(tmp_path / "some.jsonl", pairs(1, start=9))
    excluded = read_excluded([judged, tmp_path / "some.jsonl"])
    report = build_pairs([source([*pairs(60), by_id])], output=tmp_path / "new", excluded=excluded, seed=0)
    kept = {pair.a for found in written(tmp_path / "new").values() for pair in found}
    assert report.dropped == {"of an excluded document": 5}
    assert kept == {f"question cvd {n}" for n in range(60) if n not in (1, 2, 3, 9)}


def test_an_excluded_text_is_no_hard_negative(tmp_path: Path) -> None:
    write_pairs(tmp_path / "some.jsonl", [Pair("a text kept out", "another kept out")])
    found = [
        replace(one, negatives=("A text KEPT out", f"a text of its own {n}"))
        for n, one in enumerate(pairs(60))
    ]
    excluded = read_excluded([tmp_path / "some.jsonl"])
    report = build_pairs([source(found)], output=tmp_path / "new", excluded=excluded, seed=0)
    left = {text for pairs in written(tmp_path / "new").values() for one in pairs for text in one.negatives}
    assert report.dropped == {"excluded hard negatives": 60}
    assert left == {f"a text of its own {n}" for n in range(60)}


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_what_cannot_be_excluded_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=f"{name} (to exclude|holds nothing to exclude)"):
        read_excluded([tmp_path / name])


def test_a_domain_has_no_more_pairs_than_its_cap(tmp_path: Path) -> None:
    found = source(pairs(60) + pairs(30, domain="lung"))
    report = build(tmp_path / "new", found, max_pairs=40)
    assert {d: sum(report.count(d, s) for s in Split) for d in report.counts} == {"cvd": 40, "lung": 30}
    assert report.dropped == {"over the cap of a domain": 20}
    numbers = {
        int(p.a.split()[-1]) for s in written(tmp_path / "new").values() for p in s if p.domain == "cvd"
    }
    assert numbers != set(range(40))


def test_negatives_are_of_the_same_split_and_domain(tmp_path: Path) -> None:
    report = build(tmp_path / "new", source(pairs(60) + pairs(60, domain="lung")), negatives=2)
    found = written(tmp_path / "new")
    check_disjoint(*found.values())
    assert report.labels["lung"]["test"] == {"0": 12, "1": 6}
    assert all(pair.b.split()[1] == pair.domain for split in Split for pair in found[split])


def test_documents_that_belong_together_are_no_negatives(tmp_path: Path) -> None:
    asked: set[frozenset[str]] = set()

    def together(one: str, other: str) -> bool:
        asked.add(frozenset((one, other)))
        return True

    report = build(tmp_path / "new", source(pairs(60), together=together), negatives=1)
    assert (report.pairs, report.dropped) == (60, {"no negative found": 60})
    assert asked


def test_a_pair_that_was_sampled_away_is_no_negative(tmp_path: Path) -> None:
    """Every question goes with every answer; only some of these pairs are kept."""
    one = [
        Pair(f"question number {q}", f"answer number {a}", "cvd", a_id=f"q{q}", b_id=f"a{a}")
        for q in range(12)
        for a in range(12)
    ]
    report = build(tmp_path / "new", source(one), max_pairs=60, negatives=1, validation=0, test=0)
    assert report.labels["cvd"]["train"] == {"1": 60}


def test_only_the_domains_asked_for_are_kept(tmp_path: Path) -> None:
    report = build(tmp_path / "new", source(pairs(60) + pairs(9, domain="lung")), domains=("cvd",))
    assert (list(report.counts), report.dropped) == (["cvd"], {"of another domain": 9})


def test_a_domain_without_pairs_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pairs of the domain 'lungs'") as raised:
        build(tmp_path / "new", source(pairs(9, domain="lung")), domains=("lungs",))
    assert raised.value.hint == "did you mean 'lung'?"


def test_a_domain_whose_pairs_are_all_left_out_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pairs of the domain 'cvd'") as raised:
        build(tmp_path / "new", source(pairs(9)), domains=("cvd",), min_chars=99)
    assert raised.value.hint == "left out: a text is shorter than 99 characters (9)"


def test_no_pairs_at_all_says_what_was_left_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pairs are left") as raised:
        build(tmp_path / "new", source(pairs(9), dropped={"a text is empty": 2}), min_chars=99)
    hint = "left out: a text is shorter than 99 characters (9), a text is empty (2)"
    assert raised.value.hint == hint
    assert list(tmp_path.iterdir()) == []


def test_too_few_pairs_and_none_to_validate_by_are_warned_of_with_how_many(tmp_path: Path) -> None:
    report = build(
        tmp_path / "new", source(pairs(7) + pairs(60, domain="lung", label=0) + pairs(60, domain="skin"))
    )
    assert report.warnings == (
        "cvd has 7 positive pairs, fewer than 50: few for an expert",
        "cvd has no validation pairs, so that no expert of it can be accepted",
        "lung has 0 positive pairs, fewer than 50: few for an expert",
    )


@pytest.mark.parametrize("label", [0, 1])
def test_labels_of_one_class_are_reported(tmp_path: Path, label: int) -> None:
    report = build(tmp_path / "new", source(pairs(60, label=label)))
    assert report.warnings[-1].startswith(f"all labels are {label}: rankings can be judged")


def test_pairs_without_a_domain_are_reported(tmp_path: Path) -> None:
    report = build(tmp_path / "new", source(pairs(60, domain="")))
    assert report.warnings[0] == "60 pairs have no domain; --domain NAME gives them one"


@pytest.mark.parametrize("what", ["file", "filled"])
def test_what_is_there_already_is_not_touched(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "file").write_text("mine")
    with pytest.raises(UsageError, match="is there already and not empty"):
        build(tmp_path / what, source(pairs(60)))
    assert [path.read_text() for path in tmp_path.rglob("file")] == ["mine", "mine"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    build(tmp_path / "new", source(pairs(60)))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == FILES


def test_a_folder_that_cannot_be_written_is_not_there_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, found: Sequence[Pair]) -> str:
        if path.name == "test.jsonl":
            raise OSError(28, "No space left on device")
        return write_pairs(path, found)

    monkeypatch.setattr("moe_retrieval.training.pairs.build.write_pairs", full)
    with pytest.raises(MoeretError, match="cannot be written: No space left") as raised:
        build(tmp_path / "new", source(pairs(60)))
    assert "make room" in raised.value.hint
    assert list(tmp_path.iterdir()) == []


def test_counts_below_zero_are_refused() -> None:
    with pytest.raises(UsageError, match="below 0"):
        BuildOptions(negatives=-1)
