"""A power cut costs at most what was not acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from storage_builders import batch_of, filled, published, rows_of

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.storage.tables.table_files import manifests

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.store import Store


@pytest.fixture
def entry(store: Store) -> DomainEntry:
    """An acknowledged version, and after it one that nobody was promised."""
    table = filled(store, {"a": "kept"})
    entry = published(store, table)
    table.write(batch_of(rows_of("b", ["lost"]), seed=1))
    return entry


def folder(store: Store, entry: DomainEntry) -> Path:
    return store.path / "tables" / f"{entry.table}.lance"


def newest(path: Path, pattern: str) -> Path:
    return max(path.glob(pattern), key=lambda one: one.stat().st_mtime_ns)


def manifest(store: Store, entry: DomainEntry) -> Path:
    return min((folder(store, entry) / "_versions").glob("*.manifest"))


@pytest.mark.parametrize("keep", [0, 20])
def test_a_torn_manifest_that_was_never_acknowledged_is_set_aside(
    store: Store, entry: DomainEntry, keep: int
) -> None:
    torn = manifest(store, entry)
    torn.write_bytes(torn.read_bytes()[:keep])
    table = store.table(entry.table)
    assert (table.rows, table.version) == (1, entry.version)
    assert torn.with_name(torn.name + ".damaged").exists()


@pytest.mark.parametrize("keep", [0, 100])
def test_a_torn_data_file_that_was_never_acknowledged_takes_its_version_with_it(
    store: Store, entry: DomainEntry, keep: int
) -> None:
    torn = newest(folder(store, entry), "data/*.lance")
    torn.write_bytes(torn.read_bytes()[:keep])
    assert store.table(entry.table).rows == 1


def test_a_data_file_of_zeros_takes_its_version_with_it(store: Store, entry: DomainEntry) -> None:
    torn = newest(folder(store, entry), "data/*.lance")
    torn.write_bytes(bytes(torn.stat().st_size))
    assert store.table(entry.table).rows == 1


def test_after_a_repair_the_table_is_written_to_as_ever(store: Store, entry: DomainEntry) -> None:
    manifest(store, entry).write_bytes(b"")
    table = store.table(entry.table)
    table.write(batch_of(rows_of("c", ["new"]), seed=2))
    table.maintain()
    assert sorted(
        row["content"] for batch in store.view(published(store, table)).batches() for row in batch.to_pylist()
    ) == ["kept", "new"]


def test_what_a_killed_run_wrote_is_gone_on_with(store: Store, entry: DomainEntry) -> None:
    store.note_progress(entry.table, 1)
    assert store.table(entry.table, resume=True).rows == 2
    assert manifests(store.place, entry.table)[0][0] > entry.version


def test_what_was_written_before_another_generation_goes(store: Store, entry: DomainEntry) -> None:
    store.note_progress(entry.table, 1)
    store.catalog.publish({"cvd": entry}, model={"name": "tiny"}, created="2026-01-01T00:00:00+00:00")
    assert store.table(entry.table, writing=False, resume=True).rows == 2
    table = store.table(entry.table, resume=True)
    assert (table.rows, store.table(entry.table, resume=True).rows) == (1, 1)
    table.write(batch_of(rows_of("c", ["new"]), seed=2))
    assert store.table(entry.table, resume=True).rows == 2


def test_who_does_not_resume_begins_from_what_was_published(store: Store, entry: DomainEntry) -> None:
    store.note_progress(entry.table, 1)
    assert store.table(entry.table).rows == 1


def test_a_damaged_acknowledged_version_is_never_silently_dropped(store: Store, entry: DomainEntry) -> None:
    for path in (folder(store, entry) / "_versions").glob("*.manifest"):
        if int(path.stem) <= (1 << 64) - 1 - entry.version:
            path.unlink()
    with pytest.raises(StoreCorruptError, match=f"the catalog records {entry.version}"):
        store.table(entry.table)


def test_a_view_of_a_damaged_version_is_an_error_and_not_other_rows(store: Store, entry: DomainEntry) -> None:
    path = folder(store, entry) / "_versions" / f"{(1 << 64) - 1 - entry.version:020d}.manifest"
    path.write_bytes(b"")
    with pytest.raises(StoreCorruptError):
        store.view(entry)
