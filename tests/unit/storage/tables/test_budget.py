"""A table is tidied when it is worth it: fragments stay few, large ones are not copied for a single row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from storage_builders import DIM, batch_of, key_of, rows_of

from moe_retrieval.storage.tables.budget import FEW, _crowded, text_index_lags

if TYPE_CHECKING:
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table


@pytest.mark.parametrize(
    ("rows", "below"),
    [
        ([], 0),
        ([512] * FEW, 0),
        ([512] * (FEW + 1), 131_072),  # after a long run: all into one
        ([100_000] + [1] * FEW, 0),
        ([100_000] + [1] * (FEW + 1), 16_384),  # the large one stays
        ([100_000, 5_000] + [1] * (FEW + 1), 1_024),
        ([100_000] + [5_000] * (FEW + 1), 16_384),
        ([200_000] * 50, 0),
        ([100_000] * (FEW + 1), 131_072),
    ],
)
def test_too_many_of_one_size_are_joined_with_their_like(rows: list[int], below: int) -> None:
    assert _crowded(rows) == below


@pytest.fixture
def table(store: Store) -> Table:
    table = store.create_table("cvd", dim=DIM, fingerprint="space-one")
    table.write(batch_of([row for at in range(2_000) for row in rows_of(f"d{at}", ["heart"])]))
    table.maintain()
    return table


def fragments(store: Store, table: Table) -> list[int]:
    return [one.physical_rows for one in store.place.dataset(table.name).get_fragments()]


def test_many_upserts_of_one_row_leave_few_fragments_and_the_large_one_alone(
    store: Store, table: Table
) -> None:
    before = {file.name for file in (store.path / "tables").rglob("data/*.lance")}
    for at in range(20):
        name = f"d{at}"
        table.write(
            batch_of(rows_of(name, [f"lung {at}"]), seed=at), replaces=np.array([key_of(name)], np.int64)
        )
        table.maintain()
    assert len(fragments(store, table)) <= FEW + 1
    used = {one.path for part in store.place.dataset(table.name).get_fragments() for one in part.data_files()}
    assert before <= used
    assert table.rows == 2_000


def test_a_fragment_of_which_much_is_deleted_is_written_anew(store: Store, table: Table) -> None:
    table.delete_documents(np.array([key_of(f"d{at}") for at in range(300)], np.int64))
    table.maintain()
    assert fragments(store, table) == [1_700]


def test_the_text_index_is_brought_up_to_date_when_more_than_a_hundredth_is_missing(
    store: Store, table: Table
) -> None:
    table.write(batch_of([row for at in range(15) for row in rows_of(f"few{at}", ["worm"])]))
    assert not text_index_lags(store.place.dataset(table.name))
    table.write(batch_of([row for at in range(15) for row in rows_of(f"more{at}", ["worm"])]))
    assert text_index_lags(store.place.dataset(table.name))
    table.maintain()
    dataset = store.place.dataset(table.name)
    assert dataset.stats.index_stats("content_idx")["num_unindexed_rows"] == 0
    assert len(store.view(table.entry(expert="general")).search_text("worm", k=50).keys) == 30
