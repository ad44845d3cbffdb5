"""Damage is not copied: a compaction refuses it, and a text index that is not as it was is built anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from storage_builders import batch_of, filled, published, rows_of

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.storage.tables import sums
from moe_retrieval.storage.tables.budget import FEW

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.store import Store


@pytest.fixture
def entry(store: Store) -> DomainEntry:
    """A table of many fragments that a compaction would join, with a text index over all."""
    table = filled(store, {f"d{at}": f"oak tree {at}" for at in range(9)})
    for at in range(FEW):
        table.write(batch_of(rows_of(f"later{at}", ["birch"]), seed=2 + at))
    store.place.dataset(table.name).optimize.optimize_indices()
    return published(store, table)


def file_of(store: Store, entry: DomainEntry, part: str) -> Path:
    return store.path / next(name for name in sums.read(store.place, entry.sums).files if part in name)


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])


def test_rows_of_a_damaged_file_are_not_copied_to_another(store: Store, entry: DomainEntry) -> None:
    damaged = file_of(store, entry, "/data/")
    flip(damaged)
    table = store.table(entry.table)
    before = table.version
    with pytest.raises(StoreCorruptError, match=f"{damaged.name} is damaged"):
        table.compact()
    assert table.version == before


def test_sound_fragments_are_joined(store: Store, entry: DomainEntry) -> None:
    assert len(store.place.dataset(entry.table).get_fragments()) == FEW + 1
    store.table(entry.table).compact()
    assert len(store.place.dataset(entry.table).get_fragments()) == 1


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_text_index_is_built_anew(store: Store, entry: DomainEntry, damage: str) -> None:
    damaged = file_of(store, entry, "part_0_docs")
    flip(damaged) if damage == "flip" else damaged.unlink()
    table = store.table(entry.table)
    table.write(batch_of(rows_of("new", ["elm"]), seed=3))
    table.maintain()
    mended = published(store, table)
    assert str(damaged.relative_to(store.path)) not in sums.read(store.place, mended.sums).files
    assert len(store.view(mended).search_text("oaks", k=20).keys) == 9


def test_a_reindex_copies_no_damaged_rows(store: Store, entry: DomainEntry) -> None:
    sums.verify_rows(store.place, entry.table, entry.sums)
    flip(file_of(store, entry, "/data/"))
    with pytest.raises(StoreCorruptError, match="is damaged: its bytes are not those that were written"):
        sums.verify_rows(store.place, entry.table, entry.sums)
