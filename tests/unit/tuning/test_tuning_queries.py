"""The halves of judged queries."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from moe_retrieval.errors import UsageError
from moe_retrieval.tuning.queries import read_queries


def test_without_published_halves_the_hash_of_the_id_decides(folder: Path) -> None:
    found = read_queries(folder, known={"cvd", "skin"})
    assert len(found) == 80
    for one in found:
        assert one.held == (hashlib.sha256(one.id.encode()).digest()[0] >= 128)
    assert 20 <= sum(one.held for one in found) <= 60


def test_published_halves_go_before_the_hash_and_do_not_overlap(folder: Path) -> None:
    (folder / "qrels").mkdir()
    lines = (folder / "qrels.tsv").read_text().splitlines()
    (folder / "qrels" / "dev.tsv").write_text("\n".join([lines[0], *lines[1:31]]))
    (folder / "qrels" / "test.tsv").write_text("\n".join([lines[0], *lines[26:]]))
    found = read_queries(folder, known={"cvd"})
    assert [one.id for one in found if not one.held] == [f"q{at}" for at in range(25)]
    assert [one.id for one in found if one.held] == [f"q{at}" for at in range(25, 80)]


def test_a_domain_that_the_store_lacks_is_none(folder: Path) -> None:
    assert {one.domain for one in read_queries(folder, known={"cvd"})} == {"cvd", ""}


def test_a_folder_that_is_missing_or_without_judged_queries_gets_a_sentence(
    tmp_path: Path, folder: Path
) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        read_queries(tmp_path / "nowhere", known=())
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nother\td1\t1\n")
    with pytest.raises(UsageError, match="no query with a judgement"):
        read_queries(folder, known=())
