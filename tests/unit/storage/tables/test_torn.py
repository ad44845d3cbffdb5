"""A file that lacks its last bytes is noticed before it is published, and is set aside by the next writer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from storage_builders import batch_of, filled, key_of, rows_of

from moe_retrieval.errors import StoreError, StoreFullError
from moe_retrieval.storage import durability
from moe_retrieval.storage.durability import cut_short
from moe_retrieval.storage.tables.torn import names_of, refuse_torn

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table

TEXTS = {"a": "heart attack", "b": "skin"}


def check(store: Store, table: Table, *, known: frozenset[str] = frozenset()) -> None:
    refuse_torn(store.place, table.name, store.place.dataset(table.name), known=known, doing="write rows")


def cut(file: Path, *, by: int) -> None:
    file.write_bytes(file.read_bytes()[:-by])


def newest(store: Store, table: Table, pattern: str) -> Path:
    folder = store.path / "tables" / f"{table.name}.lance"
    return max(folder.glob(pattern), key=lambda file: file.stat().st_mtime_ns)


def test_what_is_whole_passes(store: Store) -> None:
    table = filled(store, TEXTS)
    table.delete_documents(table.documents().keys[:1])
    check(store, table)


@pytest.mark.parametrize("pattern", ["data/*.lance", "_indices/*/part_0_invert.lance", "_deletions/*"])
@pytest.mark.parametrize("by", [1, 100])
def test_a_file_cut_short_is_refused_by_name(store: Store, pattern: str, by: int) -> None:
    table = filled(store, TEXTS)
    table.delete_documents(table.documents().keys[:1])
    file = newest(store, table, pattern)
    cut(file, by=by)
    with pytest.raises(StoreError, match="did not reach the disk whole; check the disk") as caught:
        check(store, table)
    assert file.parent.name in str(caught.value) or file.name in str(caught.value)


def test_what_was_there_before_is_not_looked_at(store: Store) -> None:
    table = filled(store, TEXTS)
    known = names_of(store.place, table.name, store.place.dataset(table.name))
    cut(newest(store, table, "data/*.lance"), by=10)
    check(store, table, known=known)


@pytest.mark.parametrize("pattern", ["data/*.lance", "_indices/*/metadata.lance"])
def test_the_next_writer_sets_a_version_with_a_torn_file_aside(store: Store, pattern: str) -> None:
    table = filled(store, TEXTS)
    before, version = table.documents().keys.tolist(), table.version
    table.write(batch_of(rows_of("c", ["lung"])))
    table.maintain()
    cut(newest(store, table, pattern), by=30)
    again = store.table(table.name)
    assert again.version >= version
    assert set(before) <= set(again.documents().keys.tolist()) <= {*before, key_of("c")}
    check(store, again)
    assert store.view(again.entry(expert="general")).search_text("heart", k=3).keys.size == 1


def test_on_a_full_disk_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = cut_short(tmp_path / "file", doing="store the index")
    assert "file did not reach the disk whole" in str(said)
    monkeypatch.setattr(durability, "_NEXT_TO_NOTHING", 1 << 62)
    full = cut_short(tmp_path / "file", doing="store the index")
    assert isinstance(full, StoreFullError)
    assert "the disk is full" in str(full)
