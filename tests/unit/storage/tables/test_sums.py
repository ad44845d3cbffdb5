"""The checksums of a table version name every file it is read from, and cost little to keep."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
from storage_builders import batch_of, filled, key_of, rows_of

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.storage.places.folder import Folder
from moe_retrieval.storage.tables import sums
from moe_retrieval.storage.tables.view import TableView

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table


class Counting(Folder):
    """A folder that remembers whose bytes were hashed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, durable=False)
        self.hashed: list[str] = []

    def sha256(self, name: str) -> str:
        self.hashed.append(name)
        return super().sha256(name)


@pytest.fixture
def place(store: Store) -> Counting:
    return Counting(store.path)


@pytest.fixture
def table(store: Store) -> Table:
    """Rows of two commits, one of them replaced (so a deletion file), and a text index."""
    table = filled(store, {"a": "oak trees", "b": "ash trees", "c": "elm trees"})
    table.write(batch_of(rows_of("a", ["a taller oak"], doc_hash=2)), replaces=[key_of("a")])
    return table


def record(place: Folder, table: Table, previous: str = "") -> str:
    return sums.record(place, table=table.name, dataset=place.dataset(table.name), previous=previous)


def test_every_file_is_listed_with_its_size_and_hash(place: Counting, table: Table) -> None:
    listed = sums.read(place, record(place, table))
    assert (listed.table, listed.version) == (table.name, table.version)
    for name, (size, sha256) in listed.files.items():
        data = (place.local / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (size, sha256)
    kinds = {name.split("/")[2] for name in listed.files}
    assert kinds == {"data", "_deletions", "_indices", "_versions"}


def test_the_listed_files_are_all_that_a_version_needs(place: Counting, table: Table, tmp_path: Path) -> None:
    listed = sums.read(place, record(place, table))
    for name in listed.files:
        target = tmp_path / "copy" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place.local / name, target)
    copy = TableView(Folder(tmp_path / "copy"), name=table.name, version=table.version)
    assert sorted(row["content"] for batch in copy.batches() for row in batch.to_pylist()) == [
        "a taller oak",
        "ash trees",
        "elm trees",
    ]
    assert len(copy.search_text("oaks", k=3).keys) == 1


def test_files_of_the_list_before_are_not_read_again(place: Counting, table: Table) -> None:
    first = record(place, table)
    known = set(sums.read(place, first).files)
    place.hashed.clear()
    table.write(batch_of(rows_of("d", ["a new tree"]), seed=4))
    second = record(place, table, first)
    assert set(place.hashed).isdisjoint(known)
    assert len(place.hashed) == 2  # the rows and the manifest
    assert set(sums.read(place, second).files) == set(sums.read(place, record(place, table)).files)


def test_where_the_last_list_is_lost_the_others_count(place: Counting, table: Table) -> None:
    first = record(place, table)
    table.write(batch_of(rows_of("d", ["a new tree"]), seed=4))
    second = record(place, table, first)
    (place.local / sums.name_of(second)).unlink()
    place.hashed.clear()
    assert record(place, table, second) == second
    assert set(place.hashed).isdisjoint(sums.read(place, first).files)


def test_a_list_that_rots_is_refused_and_written_anew(place: Counting, table: Table) -> None:
    name = record(place, table)
    path = place.local / sums.name_of(name)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreCorruptError, match=rf"{name}.json is damaged"):
        sums.read(place, name)
    assert record(place, table) == name
    assert sums.read(place, name).table == table.name


def test_a_list_that_is_gone_is_named(place: Counting) -> None:
    with pytest.raises(StoreCorruptError, match=r"catalog/sums/00ff\.json is missing"):
        sums.read(place, "00ff")


@pytest.mark.parametrize(("damage", "said"), [("cut", "damaged: it has"), ("remove", "missing")])
def test_a_torn_or_missing_file_is_not_given_a_checksum(
    place: Counting, table: Table, damage: str, said: str
) -> None:
    dataset = place.dataset(table.name)
    file = next((place.local / "tables" / f"{table.name}.lance" / "data").glob("*.lance"))
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.unlink()
    with pytest.raises(StoreCorruptError, match=rf"{file.name} is {said}"):
        sums.record(place, table=table.name, dataset=dataset, previous="")
