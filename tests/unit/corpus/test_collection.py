"""Collections in BEIR layout: what cannot be read is named, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_retrieval.corpus.collection import read_asked, read_qrels
from moe_retrieval.errors import UsageError


def collection(folder: Path, *, queries: str = '{"_id": "q1", "text": "why?"}', qrels: str) -> Path:
    (folder / "queries.jsonl").write_text(queries, "utf8")
    (folder / "qrels.tsv").write_text(qrels, "utf8")
    return folder


@pytest.mark.parametrize("grade", ["1e999", "-inf", "nan", "good", ""])
def test_a_grade_that_is_no_number_is_named_with_its_line(tmp_path: Path, grade: str) -> None:
    folder = collection(tmp_path, qrels=f"query-id\tcorpus-id\tscore\nq1\td1\t{grade}\n")
    with pytest.raises(UsageError, match="line 2 is no judgement"):
        read_qrels(folder / "qrels.tsv")


def test_half_a_character_is_named_with_its_line(tmp_path: Path) -> None:
    folder = collection(tmp_path, queries='{"_id": "q1", "text": "a \\ud800 b"}', qrels="q1\td1\t1\n")
    with pytest.raises(UsageError, match="line 1 holds half a character"):
        read_asked(folder)


def test_a_character_written_as_two_escapes_is_whole(tmp_path: Path) -> None:
    folder = collection(tmp_path, queries='{"_id": "q1", "text": "\\ud83d\\ude00"}', qrels="q1\td1\t1\n")
    assert read_asked(folder).queries == {"q1": "\U0001f600"}


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        read_qrels(tmp_path / "none.tsv")
    assert raised.value.message == f"{tmp_path / 'none.tsv'} cannot be read: No such file or directory"
