"""Data sets of the hub, served on 127.0.0.1, and folders laid out like one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from web_service import Answer, Asked, Service, serving

from moe_retrieval.corpus.pairs import Pair, Split
from moe_retrieval.errors import FetchError, UsageError
from moe_retrieval.training.sources.hub import hub_pairs

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/abstract_domain_cvd"
ROWS = [{"a": "first text", "b": "its partner", "label": 1}, {"a": "second", "b": "a stranger", "label": 0}]


def parquet(path: Path, rows: list[dict[str, Any]], **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, **columns), path)
    return path


def lines(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")
    return path


def hub(files: Mapping[str, bytes]) -> Callable[[Asked], Answer]:
    """What the hub answers about one data set at one revision."""

    def answer(asked: Asked) -> Answer:
        path = unquote(asked.path)
        if path == f"/api/datasets/{NAME}/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha256(body).hexdigest()}
                for name, body in files.items()
            ]
            return Answer(json.dumps(tree), headers={"Content-Type": "application/json"})
        if path.startswith(f"/api/datasets/{NAME}/"):
            return Answer("", 404, {"X-Error-Code": "RevisionNotFound"})
        name = path.removeprefix(f"/datasets/{NAME}/resolve/{COMMIT}/")
        if name in files:
            etag = hashlib.sha256(files[name]).hexdigest()
            return Answer(files[name], headers={"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})
        return Answer("", 404, {"X-Error-Code": "RepoNotFound"})

    return answer


@contextmanager
def serving_hub(folder: Path) -> Iterator[Service]:
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    with serving(hub(files)) as service:
        yield service


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests are offline; these have a hub of their own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "abstract_domain_cvd"
    parquet(root / "data" / "train-00000-of-00001.parquet", ROWS)
    parquet(root / "data" / "valid-00000-of-00001.parquet", ROWS[:1])
    parquet(root / "data" / "test-00000-of-00001.parquet", ROWS[1:])
    (root / "README.md").write_text("train and test")
    return root


def pairs(source: object, **options: Any) -> list[Pair]:
    return list(hub_pairs(str(source), **options))


def splits(found: list[Pair]) -> list[str]:
    return [str(pair.split) for pair in found]


def test_a_data_set_of_the_hub_is_what_its_folder_is(folder: Path, tmp_path: Path) -> None:
    with serving_hub(folder) as service:
        found = pairs(NAME, revision=COMMIT, cache=tmp_path / "cache", endpoint=service.url)
    assert found == pairs(folder)
    assert found[-2] == Pair(
        "second", "a stranger", domain="cvd", label=0, kind="labelled", split=Split.TRAIN
    )
    assert splits(found) == ["test", "train", "train", "validation"]


def test_only_the_files_of_the_split_are_fetched(folder: Path, tmp_path: Path) -> None:
    with serving_hub(folder) as service:
        found = pairs(
            NAME, revision=COMMIT, split="validation", cache=tmp_path / "cache", endpoint=service.url
        )
        fetched = {asked.path.rpartition("/")[2] for asked in service.asked if "resolve" in asked.path}
    assert splits(found) == ["validation"]
    assert fetched == {"valid-00000-of-00001.parquet"}


def test_what_was_fetched_is_not_fetched_again(folder: Path, tmp_path: Path) -> None:
    with serving_hub(folder) as service:
        options = {"revision": COMMIT, "cache": tmp_path / "cache", "endpoint": service.url}
        first = pairs(NAME, **options)
        before = sum(asked.method == "GET" and "resolve" in asked.path for asked in service.asked)
        assert pairs(NAME, **options) == first
        assert sum(asked.method == "GET" and "resolve" in asked.path for asked in service.asked) == before


def test_nothing_is_read_before_it_is_asked_for(folder: Path, tmp_path: Path) -> None:
    with serving_hub(folder) as service:
        found = hub_pairs(NAME, revision=COMMIT, cache=tmp_path / "cache", endpoint=service.url)
        assert not [asked for asked in service.asked if "resolve" in asked.path]
        next(found)
        assert {asked.path.rpartition("/")[2] for asked in service.asked if "resolve" in asked.path} == {
            "test-00000-of-00001.parquet"
        }


@pytest.mark.parametrize("revision", ["", "main", "v1.0", COMMIT[:12], COMMIT.upper()])
def test_a_data_set_that_is_not_pinned_is_refused(revision: str) -> None:
    with pytest.raises(UsageError, match=f"not pinned: .*; give the 40 digits .* git ls-remote .*/{NAME}"):
        pairs(NAME, revision=revision)


def test_a_revision_that_is_not_there_is_named(folder: Path) -> None:
    with serving_hub(folder) as service, pytest.raises(UsageError, match="has no revision ffff"):
        pairs(NAME, revision="f" * 40, endpoint=service.url)


def test_a_data_set_that_is_not_there_is_named(folder: Path) -> None:
    with (
        serving_hub(folder) as service,
        pytest.raises(UsageError, match="'no/such' is no folder, and no data"),
    ):
        pairs("no/such", revision=COMMIT, endpoint=service.url)


def test_a_name_that_no_data_set_can_have_is_named() -> None:
    with pytest.raises(UsageError, match=r"'\./not/there' is no folder, and no data set"):
        pairs("./not/there", revision=COMMIT)


def test_a_gated_data_set_says_whom_to_ask() -> None:
    with (
        serving(lambda asked: Answer("", 403, {"X-Error-Code": "GatedRepo"})) as service,
        pytest.raises(UsageError, match="is open to some only; ask for access"),
    ):
        pairs(NAME, revision=COMMIT, endpoint=service.url)


def test_without_a_connection_a_folder_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match=r"could not be fetched: .*offline.*; check .* or give a folder"):
        pairs(NAME, revision=COMMIT)


def test_a_refusal_of_the_hub_is_told() -> None:
    with (
        serving(lambda asked: Answer("no", 400)) as service,
        pytest.raises(FetchError, match="could not be fetched: Bad request: no; check the connection"),
    ):
        pairs(NAME, revision=COMMIT, endpoint=service.url)


# --- layouts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("train.parquet", "train"),
        ("train/0000.parquet", "train"),
        ("data/val-00000-of-00002.parquet", "validation"),
        ("dev.parquet", "validation"),
        ("copd_test_pairs.parquet", "test"),
        ("test_sets/train.parquet", "train"),
        ("pairs.parquet", "None"),
    ],
)
def test_the_split_is_in_the_name_of_the_file_or_its_folder(tmp_path: Path, file: str, split: str) -> None:
    parquet(tmp_path / file, ROWS[:1])
    assert splits(pairs(tmp_path)) == [split]


@pytest.mark.parametrize("label", [1, True, 1.0, "1", "1.0"])
def test_a_label_may_be_of_any_type(tmp_path: Path, label: object) -> None:
    parquet(tmp_path / "train.parquet", [{"a": "one", "b": "two", "label": label}])
    assert [pair.label for pair in pairs(tmp_path)] == [1]


def test_csv_and_json_lines_hold_the_same_pairs(tmp_path: Path) -> None:
    text = 'a,b,label\n"with, comma\nand line",b,1\nNA,007,0\n'
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "train.csv").write_text(text, encoding="utf-8-sig")
    lines(
        tmp_path / "two" / "train.jsonl",
        {"a": "with, comma\nand line", "b": "b", "label": 1},
        {"a": "NA", "b": "007", "label": 0},
    )
    one, two = pairs(tmp_path / "one", domain="x"), pairs(tmp_path / "two", domain="x")
    assert one == two
    assert [(pair.a, pair.b) for pair in one] == [("with, comma\nand line", "b"), ("NA", "007")]


def test_tab_separated_rows_are_read(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("label\ta\tb\n1\tone, two\tthree\n")
    assert [(pair.a, pair.b) for pair in pairs(tmp_path)] == [("one, two", "three")]


def test_the_same_split_in_two_formats_is_read_once(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", ROWS)
    lines(tmp_path / "train.jsonl", *ROWS)
    lines(tmp_path / "test.jsonl", ROWS[0])
    assert splits(pairs(tmp_path)) == ["test", "train", "train"]


def test_the_domain_is_that_of_the_caller_the_row_or_the_name(tmp_path: Path) -> None:
    rows = [{"a": "one", "b": "two", "label": 1, "domain": name} for name in ("Skin cancer", "")]
    parquet(tmp_path / "abstract_domain_copd" / "train.parquet", rows)
    folder = tmp_path / "abstract_domain_copd"
    assert [pair.domain for pair in pairs(folder)] == ["skin-cancer", "copd"]
    assert [pair.domain for pair in pairs(folder, domain="Lungs")] == ["lungs", "lungs"]


def test_empty_and_equal_texts_are_given_as_they_stand(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", [{"a": "", "b": "", "label": 1}])
    assert [(pair.a, pair.b) for pair in pairs(tmp_path)] == [("", "")]


# --- bad input --------------------------------------------------------------------------------------------


def test_a_split_that_is_not_there_is_named_with_those_that_are(folder: Path) -> None:
    (folder / "data" / "valid-00000-of-00001.parquet").unlink()
    with pytest.raises(UsageError, match="has no split validation; it has: test, train"):
        pairs(folder, split="valid")


def test_a_word_that_is_no_split_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"no split is called 'tran'; did you mean 'train'\?"):
        pairs(folder, split="tran")


def test_a_data_set_without_data_says_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(UsageError, match=r"holds no data; read are \.parquet, \.jsonl"):
        pairs(tmp_path)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, suffix: str) -> None:
    rows = [{"a": "one", "text": "two", "label": 1}]
    file = tmp_path / f"train.{suffix}"
    if suffix == "csv":
        file.write_text("a,text,label\none,two,1\n")
    elif suffix == "jsonl":
        lines(file, *rows)
    else:
        parquet(file, rows)
    with pytest.raises(
        UsageError, match=r"train\..* has no b; needed are a, b, label; it has: a, text, label"
    ):
        pairs(tmp_path)


@pytest.mark.parametrize("label", [2, -1, 0.5, "yes", None])
def test_a_label_that_is_neither_0_nor_1_names_its_row(tmp_path: Path, label: object) -> None:
    lines(tmp_path / "train.jsonl", *ROWS, {"a": "one", "b": "two", "label": label})
    with pytest.raises(UsageError, match=r"train\.jsonl, row 3: the label is .*; it must be 0 or 1"):
        pairs(tmp_path)


def test_a_side_that_is_no_text_names_its_row(tmp_path: Path) -> None:
    parquet(
        tmp_path / "train.parquet", [{"a": "one", "b": None, "label": 1}, {"a": "a", "b": "b", "label": 1}]
    )
    with pytest.raises(UsageError, match=r"train\.parquet, row 1: 'b' is no text: None"):
        pairs(tmp_path)


@pytest.mark.parametrize("line", ['{"a": ', "[1]", "[" * 100_000])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(UsageError, match=r"train\.jsonl, line 2 is no (JSON|object)"):
        pairs(tmp_path)


@pytest.mark.parametrize("name", ["train.parquet", "train.csv", "train.jsonl"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"a,b,label\n\xff\xfe\x00,1\n")
    with pytest.raises(UsageError, match=rf"{name} cannot be read: .*; fetch or write the file anew"):
        pairs(tmp_path)
