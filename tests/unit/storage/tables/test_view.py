"""A view never changes, finds every row, and no query can break it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from storage_builders import DIM, batch_of, filled, key_of, published, rows_of

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.filters import parse_filter
from moe_retrieval.storage.found import Found
from moe_retrieval.storage.store import Store
from moe_retrieval.storage.tables.view import HIT_COLUMNS, TableView

TEXTS = {
    "aspirin": "Aspirin lowers the risk of a stroke.",
    "asthma": "Asthma is treated with inhaled steroids.",
    "strokes": "Strokes were rare; café patients had no strokes.",
    "empty": "The of and.",
}


@pytest.fixture
def view(store: Store) -> TableView:
    return store.view(published(store, filled(store, TEXTS)))


def docs(view: TableView, found: Found) -> list[str]:
    return [row["doc_id"] for row in view.fetch(found.keys, columns=["doc_id"]).to_pylist()]


def test_text_is_found_by_any_of_its_words_stemmed_best_first(view: TableView) -> None:
    found = view.search_text("stroke aspirin", k=10)
    assert docs(view, found) == ["aspirin", "strokes"]
    assert found.scores[0] > found.scores[1] > 0


def test_accents_and_case_do_not_matter(view: TableView) -> None:
    assert docs(view, view.search_text("CAFE", k=5)) == ["strokes"]


def test_k_and_a_filter_limit_what_is_found(view: TableView) -> None:
    assert len(view.search_text("stroke", k=1).keys) == 1
    where = parse_filter("doc_id != 'aspirin'")
    assert docs(view, view.search_text("stroke aspirin", k=10, where=where)) == ["strokes"]


@pytest.mark.parametrize(
    "query", ["", "   ", "the", "'\"", "a AND (", "*", "\0", "😀", "+-\\/:^~[]{}", "x" * 100_000]
)
def test_no_query_text_can_fail(view: TableView, query: str) -> None:
    assert len(view.search_text(query, k=5).keys) == 0


def test_query_syntax_is_only_words(view: TableView) -> None:
    assert docs(view, view.search_text("aspirin AND NOT content:stroke", k=5)) == ["aspirin", "strokes"]


def test_rows_written_since_the_last_maintenance_are_found_by_stem(store: Store) -> None:
    table = filled(store, {"old": "Old strokes."})
    table.write(batch_of(rows_of("new", ["New strokes."]), seed=1))
    view = store.view(table.entry(expert="general"))
    assert sorted(docs(view, view.search_text("stroke", k=5))) == ["new", "old"]


def test_equal_scores_are_in_the_order_of_their_keys_wherever_the_cut_falls(store: Store) -> None:
    table = filled(store, {f"d{at}": "the very same words" for at in range(60)})
    view = store.view(table.entry(expert="general"))
    expected = np.sort(table.keys())
    for k in (1, 7, 60):
        assert view.search_text("words", k=k).keys.tolist() == expected[:k].tolist()


def test_rows_come_back_in_the_order_of_their_keys_by_offset_or_without(view: TableView) -> None:
    keys, _ = view.key_vh()
    wanted = keys[[2, 0, 3]]
    by_key = view.fetch(wanted)
    assert by_key["key"].to_pylist() == wanted.tolist()
    assert view.fetch(wanted, offsets=np.array([2, 0, 3])).to_pylist() == by_key.to_pylist()


@pytest.mark.parametrize("offsets", [[0, 1, 2], [-1, 0, 3], [99, 0, 3]])
def test_wrong_offsets_are_noticed(view: TableView, offsets: list[int]) -> None:
    wanted = view.key_vh()[0][[2, 0, 3]]
    assert view.fetch(wanted, offsets=np.array(offsets))["key"].to_pylist() == wanted.tolist()


def test_a_key_the_version_does_not_hold_is_an_error(view: TableView) -> None:
    with pytest.raises(StoreCorruptError, match="has no row 12345"):
        view.fetch(np.array([12345]))


def test_a_view_has_the_digest_its_entry_records(store: Store) -> None:
    table = filled(store, TEXTS)
    entry = published(store, table)
    table.delete_documents(np.array([key_of("empty")]))
    assert store.view(entry).digest() == entry.digest != table.entry(expert="general").digest


def test_a_row_is_fetched_with_all_that_a_hit_is_made_of(view: TableView) -> None:
    row = view.fetch(view.key_vh()[0][:1]).to_pylist()[0]
    assert tuple(row) == HIT_COLUMNS
    assert {"key", "id", "doc_id", "source", "title", "section", "page"} < set(row)
    assert {"start", "end", "lead", "content", "meta"} < set(row)


def test_fetching_nothing_gives_an_empty_table(view: TableView) -> None:
    assert view.fetch(np.zeros(0, np.int64)).num_rows == 0


def test_a_view_does_not_see_what_is_written_later(store: Store) -> None:
    table = filled(store, TEXTS)
    view = store.view(table.entry(expert="general"))
    table.delete_documents(np.array([key_of("aspirin")]))
    table.write(batch_of(rows_of("asthma", ["changed"]), seed=1), replaces=np.array([key_of("asthma")]))
    table.maintain()
    assert view.rows == len(TEXTS)
    assert "aspirin" in docs(view, view.search_text("aspirin", k=5))
    assert "Asthma is treated with inhaled steroids." in [
        row["content"] for batch in view.batches(["content"]) for row in batch.to_pylist()
    ]


def test_offsets_are_places_in_scan_order_after_deletions_too(store: Store) -> None:
    table = filled(store, {f"d{at}": f"text {at}" for at in range(20)}, maintain=False)
    table.delete_documents(np.array([key_of("d3"), key_of("d11")]))
    view = store.view(table.entry(expert="general"))
    keys, _ = view.key_vh()
    assert view.take(np.array([17, 3, 3]), columns=["key"])["key"].to_pylist() == keys[[17, 3, 3]].tolist()
    assert np.array_equal(view.vectors(np.arange(18)), view.vectors())
    assert view.vectors().shape == (18, DIM)


def test_threads_share_a_view(view: TableView) -> None:
    expected = view.search_text("stroke", k=5)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: view.search_text("stroke", k=5), range(40)))
    assert all(np.array_equal(one.keys, expected.keys) for one in found)


def test_an_error_of_the_reader_of_batches_stays_its_own(view: TableView) -> None:
    with pytest.raises(ValueError, match="mine"):
        for _ in view.batches(["key"]):
            raise ValueError("mine")
