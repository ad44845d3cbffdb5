"""What a training may see: never the test split, no document on both sides, and enough of everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moe_retrieval.errors import UsageError
from moe_retrieval.training.material import TrainingPairs


def record(number: int, **said: Any) -> dict[str, Any]:
    return {"a": f"question {number}", "b": f"answer {number}", "domain": "cvd"} | said


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in records), "utf-8")
    return path


def write_folder(folder: Path, **files: list[dict[str, Any]]) -> Path:
    """A folder of pairs; files that are not named are as they should be."""
    usual = {
        "train": [record(at, split="train") for at in range(20)],
        "validation": [record(at, split="validation") for at in range(20, 25)],
    }
    for name, records in (usual | files).items():
        write(folder / f"{name}.jsonl", records)
    return folder


def test_a_folder_gives_its_train_and_its_validation(tmp_path: Path) -> None:
    found = TrainingPairs.open(write_folder(tmp_path))
    assert (len(found.train), len(found.validation)) == (20, 5)
    assert found.counts() == {"cvd": 20}


def test_a_folders_test_file_is_never_opened(tmp_path: Path) -> None:
    """Were it opened, this would fail: it is no file at all."""
    folder = write_folder(tmp_path)
    (folder / "test.jsonl").mkdir()
    assert len(TrainingPairs.open(folder).train) == 20


@pytest.mark.parametrize("name", ["train", "validation"])
def test_a_record_of_the_test_split_is_refused_wherever_it_stands(tmp_path: Path, name: str) -> None:
    start = {"train": 0, "validation": 20}[name]
    records = [record(start + at, split="test" if at == 4 else name) for at in range(5)]
    with pytest.raises(UsageError, match="holds pairs of the test split, which no training may see"):
        TrainingPairs.open(write_folder(tmp_path, **{name: records}))


@pytest.mark.parametrize("others", ["train", "test"])
def test_the_test_file_itself_is_refused(tmp_path: Path, others: str) -> None:
    path = write(tmp_path / "pairs.jsonl", [record(0, split="test"), record(1, split=others)])
    with pytest.raises(UsageError, match="test split"):
        TrainingPairs.open(path)


def test_a_document_in_both_parts_is_refused_by_name(tmp_path: Path) -> None:
    train = [record(0, a_id="doc-7", b_id="doc-8")]
    validation = [record(20, a_id="doc-9", b_id="doc-7")]
    with pytest.raises(UsageError, match="document 'doc-7' is in training and in validation"):
        TrainingPairs.open(write_folder(tmp_path, train=train, validation=validation))


@pytest.mark.parametrize("shared", ["question 0", "Question  0"])
def test_a_text_in_both_parts_is_refused_though_its_ids_differ(tmp_path: Path, shared: str) -> None:
    train = [record(0, a_id="1", b_id="2")]
    validation = [record(20, a=shared, a_id="3", b_id="4")]
    with pytest.raises(UsageError, match="text 'question 0' is in training and in validation"):
        TrainingPairs.open(write_folder(tmp_path, train=train, validation=validation))


def test_one_text_on_both_sides_is_refused_with_an_example(tmp_path: Path) -> None:
    train = [record(0), record(1, a="the same", b="The  same"), record(2, a="x", b="x", label=0)]
    with pytest.raises(UsageError, match="1 pairs have the same text on both sides, such as 'the same'"):
        TrainingPairs.open(write_folder(tmp_path, train=train))


def test_pairs_without_a_domain_get_the_one_that_is_given(tmp_path: Path) -> None:
    train = [record(0, domain=""), record(1, domain="skin")]
    found = TrainingPairs.open(write_folder(tmp_path, train=train), domain="copd")
    assert found.counts() == {"copd": 1, "skin": 1}


def test_only_the_domains_asked_for_are_kept(tmp_path: Path) -> None:
    train = [record(0), record(1, domain="skin")]
    found = TrainingPairs.open(write_folder(tmp_path, train=train)).only(["skin"])
    assert (found.counts(), found.validation) == ({"skin": 1}, ())


@pytest.mark.parametrize("missing", ["train", "validation"])
def test_a_folder_without_one_of_its_files_is_refused(tmp_path: Path, missing: str) -> None:
    (write_folder(tmp_path) / f"{missing}.jsonl").unlink()
    with pytest.raises(UsageError, match=f"{missing}.jsonl cannot be read"):
        TrainingPairs.open(tmp_path)


# --- a single file
# -----------------------------------------------------------------------------------------------------


def documents(pairs: Any) -> set[str]:
    return {name for pair in pairs for name in pair.documents}


def test_a_single_file_is_split_by_document_and_loses_nothing_that_stands_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [record(at) for at in range(100)])
    found = TrainingPairs.open(path)
    assert len(found.train) + len(found.validation) == 100
    assert 10 <= len(found.validation) <= 20
    assert not documents(found.train) & documents(found.validation)
    assert TrainingPairs.open(path) == found
    assert TrainingPairs.open(path, seed=1) != found


def test_pairs_of_one_document_stay_together(tmp_path: Path) -> None:
    records = [record(at, a_id=f"doc {at // 5}", b_id=f"other {at}") for at in range(100)]
    found = TrainingPairs.open(write(tmp_path / "pairs.jsonl", records))
    assert found.validation
    assert not documents(found.train) & documents(found.validation)
    assert len(found.train) + len(found.validation) == 100


def test_each_domain_of_a_single_file_gets_its_validation(tmp_path: Path) -> None:
    records = [record(at, domain="cvd" if at < 150 else "skin") for at in range(180)]
    found = TrainingPairs.open(write(tmp_path / "pairs.jsonl", records))
    found.demand(["cvd", "skin"], at_least=10)
    assert {pair.domain for pair in found.validation} == {"cvd", "skin"}


def test_a_file_that_says_its_splits_keeps_them(tmp_path: Path) -> None:
    records = [record(at, split=("train", "validation")[at % 2]) for at in range(6)]
    found = TrainingPairs.open(write(tmp_path / "pairs.jsonl", records))
    assert [pair.a for pair in found.train] == ["question 0", "question 2", "question 4"]
    assert [pair.a for pair in found.validation] == ["question 1", "question 3", "question 5"]


def test_a_file_that_says_the_split_of_some_pairs_only_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [record(0, split="train"), record(1), record(2)])
    with pytest.raises(UsageError, match=r"pairs\.jsonl: 1 of 3 pairs say which split they are of"):
        TrainingPairs.open(path)


# --- enough
# -----------------------------------------------------------------------------------------------------


def test_too_few_pairs_are_refused_with_how_many_there_are(tmp_path: Path) -> None:
    found = TrainingPairs.open(write_folder(tmp_path))
    found.demand(["cvd"], at_least=20)
    with pytest.raises(UsageError, match="'cvd' has 20 pairs to learn from, 21 are needed"):
        found.demand(["cvd"], at_least=21)


def test_pairs_labelled_0_are_nothing_to_learn_from(tmp_path: Path) -> None:
    train = [record(at, label=at % 2) for at in range(20)]
    with pytest.raises(UsageError, match="has 10 pairs to learn from, 20 are needed"):
        TrainingPairs.open(write_folder(tmp_path, train=train)).demand(["cvd"], at_least=20)


def test_a_domain_without_pairs_is_refused_with_those_that_have_some(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'skin' has 0 pairs to learn from") as refused:
        TrainingPairs.open(write_folder(tmp_path)).demand(["cvd", "skin"], at_least=5)
    assert "cvd 20" in refused.value.hint


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        ([record(20, domain="skin"), record(21, domain="skin")], "has no pairs to validate by"),
        ([record(20, label=0), record(21, label=0)], "has no pairs to validate by"),
        ([record(20)], "has only 1 text to validate by"),
        ([record(20), record(20, b="answer 21")], "has only 1 text to validate by"),
    ],
    ids=["another domain", "label 0", "one pair", "one a"],
)
def test_too_little_to_validate_by_is_refused_before_anything_is_trained(
    tmp_path: Path, validation: list[dict[str, Any]], said: str
) -> None:
    found = TrainingPairs.open(write_folder(tmp_path, validation=validation))
    with pytest.raises(UsageError, match=said):
        found.demand(["cvd"], at_least=5)
