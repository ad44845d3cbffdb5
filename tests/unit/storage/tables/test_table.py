"""A table holds what was acknowledged, once, and says which documents are whole."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from storage_builders import DIM, batch_of, filled, key_of, rows_of

from moe_retrieval.errors import BadVectorError
from moe_retrieval.storage.engine import connect
from moe_retrieval.storage.places.folder import Folder
from moe_retrieval.storage.store import Store
from moe_retrieval.storage.tables.rows import CONTENT, MAX_FIELDS, align, schema
from moe_retrieval.storage.tables.table import Table

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event
    from typing import Any

HERE = Path(__file__).parents[1]


@pytest.fixture
def table(store: Store) -> Table:
    return store.create_table("cvd", dim=DIM, fingerprint="space-one")


def texts(store: Store, table: Table) -> list[str]:
    view = store.view(table.entry(expert="general"))
    return sorted(row["content"] for batch in view.batches(["content"]) for row in batch.to_pylist())


def digest(table: Table) -> str:
    return table.entry(expert="general").digest


def keys(*docs: str) -> np.ndarray:
    return np.array([key_of(doc) for doc in docs], np.int64)


def test_a_new_table_is_empty_and_knows_its_encoder(table: Table) -> None:
    assert (table.rows, table.fingerprint, table.dim) == (0, "space-one", DIM)
    assert table.documents().keys.size == 0


def test_a_changed_document_replaces_its_old_chunks_in_one_commit(store: Store, table: Table) -> None:
    table.write(batch_of(rows_of("a", ["one", "two", "three"]) + rows_of("b", ["other"])))
    before = table.version
    table.write(batch_of(rows_of("a", ["new"], doc_hash=2)), replaces=keys("a"))
    assert texts(store, table) == ["new", "other"]
    assert table.version == before + 1


def test_writing_the_same_rows_again_as_a_replacement_doubles_nothing(store: Store, table: Table) -> None:
    batch = batch_of(rows_of("a", ["one", "two"]))
    table.write(batch)
    table.write(batch, replaces=keys("a"))
    assert texts(store, table) == ["one", "two"]


def test_a_replacement_leaves_no_metadata_of_the_old_row_behind(store: Store, table: Table) -> None:
    table.write(batch_of(rows_of("a", ["one"], metadata={"year": 2001, "journal": "BMJ"})))
    table.write(batch_of(rows_of("a", ["one"], metadata={"open": True})), replaces=keys("a"))
    row = next(store.view(table.entry(expert="general")).batches()).to_pylist()[0]
    assert (row["n_year"], row["s_journal"], row["b_open"]) == (None, None, True)


def test_a_document_is_complete_when_all_its_parts_are_there(table: Table) -> None:
    table.write(batch_of(rows_of("whole", ["x", "y"], doc_hash=5) + rows_of("half", ["x"], parts=3)))
    stored = table.documents()
    assert dict(zip(stored.keys.tolist(), stored.complete.tolist(), strict=True)) == {
        key_of("whole"): True,
        key_of("half"): False,
    }
    assert stored.hashes[stored.keys == key_of("whole")].tolist() == [5]


def test_parts_of_two_contents_do_not_make_a_complete_document(table: Table) -> None:
    table.write(batch_of([rows_of("a", ["x", "y"], doc_hash=1)[0], rows_of("a", ["x", "y"], doc_hash=2)[1]]))
    assert table.documents().complete.tolist() == [False]


def test_of_rows_that_stand_twice_the_first_stays(store: Store, table: Table) -> None:
    rows = batch_of(rows_of("a", ["one", "two"]) + rows_of("b", ["other"]))
    table.write(rows)
    assert table.drop_twins() == 0
    for _ in range(2):
        table.write(rows.slice(1))
    assert table.documents().complete.tolist() == [False, False]
    assert table.drop_twins() == 4
    assert sorted(table.keys().tolist()) == sorted(rows["key"].to_pylist())
    assert table.documents().complete.tolist() == [True, True]


def test_deleting_documents_removes_all_their_rows_and_counts_them(store: Store, table: Table) -> None:
    table.write(batch_of(rows_of("a", ["one", "two"]) + rows_of("b", ["other"])))
    assert table.delete_documents(keys("a", "unknown")) == 2
    assert texts(store, table) == ["other"]
    assert table.delete_documents(keys()) == 0


def test_an_entry_counts_rows_and_documents(table: Table) -> None:
    table.write(batch_of(rows_of("a", ["one", "two"]) + rows_of("b", ["other"])))
    entry = table.entry(expert="general")
    assert (entry.rows, entry.documents) == (3, 2)


def test_of_some_documents_those_of_a_source_are_told(table: Table) -> None:
    docs = [f"d{at}" for at in range(50)]
    table.write(batch_of([row for doc in docs for row in rows_of(doc, ["one", "two"])]))
    asked = np.sort(keys(*docs[10:30], "unknown"))
    found = table.documents_from(lambda source: "/d2" in source, asked)
    assert found.dtype == np.int64
    assert found.tolist() == sorted(keys(*docs[20:30]).tolist())
    assert table.documents_from(lambda source: True, keys()).tolist() == []
    assert table.documents_from(lambda source: False, asked).tolist() == []


def test_each_source_is_judged_once_and_only_if_it_is_asked_for(table: Table) -> None:
    for at, docs in enumerate(("ab", "ca")):
        batch = batch_of([row for doc in docs for row in rows_of(doc, ["one", "two"])], seed=at)
        table.write(batch, replaces=keys(*docs))
    judged: list[str] = []
    table.documents_from(lambda source: bool(judged.append(source)), np.sort(keys("a", "b")))
    assert sorted(judged) == ["/corpus/a.txt", "/corpus/b.txt"]


def test_what_the_judge_of_sources_raises_stays_its_own(table: Table) -> None:
    table.write(batch_of(rows_of("a", ["one"])))
    with pytest.raises(ValueError, match="abc"):
        table.documents_from(lambda source: bool(int("abc")), keys("a"))


def test_the_digest_depends_on_content_and_not_on_the_way_to_it(store: Store) -> None:
    rows = [rows_of(doc, [doc]) for doc in "abcd"]
    batches = [batch_of(part, seed=at) for at, part in enumerate(rows)]
    one = store.create_table("one", dim=DIM, fingerprint="f")
    other = store.create_table("two", dim=DIM, fingerprint="f")
    for batch in batches:
        one.write(batch)
    for batch in [*reversed(batches), batches[0]]:
        other.write(batch, replaces=keys("a"))
    other.write(batches[0], replaces=keys("a"))
    other.maintain()
    assert digest(one) == digest(other)
    other.write(batch_of(rows[0], seed=99), replaces=keys("a"))
    assert digest(one) != digest(other)


def test_vectors_of_another_width_are_refused(table: Table) -> None:
    with pytest.raises(BadVectorError, match=f"width {DIM + 1} do not fit"):
        table.write(batch_of(rows_of("a", ["x"]), dim=DIM + 1))


def test_fields_beyond_the_limit_stay_in_the_metadata_only(store: Store, table: Table) -> None:
    table.write(batch_of(rows_of("a", ["x"], metadata={f"field{at:03}": at for at in range(MAX_FIELDS + 5)})))
    view = store.view(table.entry(expert="general"))
    fields = [name for name in view.fields() if name.startswith("field")]
    assert len(fields) == MAX_FIELDS
    assert '"field104": 104' in next(view.batches(["meta"])).to_pylist()[0]["meta"]


def test_maintenance_joins_fragments_and_keeps_every_pinned_version(store: Store, table: Table) -> None:
    for at in range(12):
        table.write(batch_of(rows_of(f"d{at}", [f"text {at}"]), seed=at))
    pinned = table.entry(expert="general")
    table.delete_documents(keys("d0"))
    table.maintain()
    after = store.view(table.entry(expert="general"))
    assert len(after.dataset.get_fragments()) == 1
    assert (after.rows, store.view(pinned).rows) == (11, 12)


def test_maintenance_with_nothing_to_do_makes_no_new_version(store: Store) -> None:
    table = filled(store, {"a": "text"})
    before = table.version
    table.maintain()
    assert table.version == before


def test_a_handle_sees_and_survives_what_another_handle_wrote(store: Store, table: Table) -> None:
    table.write(batch_of(rows_of("a", ["one"])))
    other = store.table(table.name)
    other.write(batch_of(rows_of("b", ["two"], metadata={"year": 1}), seed=1))
    other.maintain()
    table.write(batch_of(rows_of("a", ["three"], metadata={"year": 2}), seed=2), replaces=keys("a"))
    assert texts(store, table) == ["three", "two"]
    assert table.rows == other.rows == 2


def test_two_processes_writing_the_same_new_rows_leave_no_twins(store: Store, table: Table) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=_write_all, args=(store.path, table.name, ready))
    writer.start()
    assert ready.wait(60)
    _write_all(store.path, table.name, ready)
    writer.join()
    assert writer.exitcode == 0
    assert len(np.unique(table.keys())) == len(table.keys()) == 10


def _write_all(path: Path, name: str, ready: Event) -> None:
    table = Store.open(path).table(name)
    connect(path / "tables")  # the slow import, before both begin
    ready.set()
    for at in range(10):
        table.write(batch_of(rows_of(f"d{at}", ["text"]), seed=at), replaces=keys(f"d{at}"))


def test_a_new_table_is_laid_out_as_lancedb_lays_it_out(tmp_path: Path) -> None:
    """Down to the bytes that say how texts become words."""
    Table.create(Folder(tmp_path), name="ours", dim=DIM, fingerprint="space-one", after=3)
    by_lancedb(tmp_path / "tables")
    ours, theirs = (Folder(tmp_path).dataset(name) for name in ("ours", "theirs"))
    assert layout(ours) == layout(theirs)


def test_rows_are_added_as_lancedb_adds_them(tmp_path: Path) -> None:
    texts = ["Aspirin lowers the risk of strokes", "the asthma of a child", "a stroke"]
    batch = batch_of(rows_of("a", texts, metadata={"year": 1}))
    mine = Table.create(Folder(tmp_path), name="ours", dim=DIM, fingerprint="space-one", after=3)
    theirs = by_lancedb(tmp_path / "tables")
    theirs.add_columns([batch.schema.field("n_year")])
    theirs.add(align(batch, theirs.schema))
    mine.write(batch)
    one, other = (Folder(tmp_path).dataset(name) for name in ("ours", "theirs"))
    assert layout(one) == layout(other)
    assert one.to_table() == other.to_table()
    for words in ("stroke", "the", "child with asthma"):
        assert scores(one, words) == scores(other, words)


def by_lancedb(folder: Path) -> Any:
    """An empty table `theirs`, made as the documentation of LanceDB makes it."""
    from lancedb.index import FTS

    made = connect(folder).create_table("theirs", schema=schema(DIM, fingerprint="space-one", after=3))
    text = FTS(with_position=False, base_tokenizer="simple", language="English", stem=True)
    made.create_index(CONTENT, config=text, replace=True)
    return made


def layout(dataset: Any) -> dict[str, Any]:
    """All that decides how a table is read, written and searched."""
    (index,) = dataset.read_transaction(2).operation.new_indices
    fields = [(one.name, one.type, one.nullable, one.metadata) for one in dataset.schema]
    files = [file for part in dataset.get_fragments() for file in part.data_files()]
    return {
        "fields": fields,
        "notes": dataset.schema.metadata,
        "format": (dataset.data_storage_version, dataset.has_stable_row_ids, dataset.version),
        "index": (index.name, index.fields, index.index_version, index.index_details),
        "files": [(one.fields, one.file_major_version, one.file_minor_version) for one in files],
    }


def scores(dataset: Any, words: str) -> list[tuple[str, float]]:
    from lance.query import MatchQuery

    found = dataset.scanner(columns=["id", "_score"], full_text_query=MatchQuery(words, CONTENT)).to_table()
    return sorted(zip(found["id"].to_pylist(), found["_score"].to_pylist(), strict=True))


def test_lancedb_is_imported_only_where_rows_are_replaced(tmp_path: Path) -> None:
    program = (
        "import sys, numpy; from pathlib import Path; from moe_retrieval.storage.store import Store\n"
        "from storage_builders import batch_of, filled, key_of, published, rows_of\n"
        "store = Store.open(Path(sys.argv[1]), create=True, durable=False)\n"
        "table = filled(store, {'a': 'one'})\n"
        "table.write(batch_of(rows_of('b', ['two'], metadata={'year': 1}), seed=1))\n"
        "published(store, table)\n"
        "print('lancedb' in sys.modules)\n"
        "table.write(batch_of(rows_of('a', ['new']), seed=2), replaces=numpy.array([key_of('a')]))\n"
        "print('lancedb' in sys.modules, table.rows)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "store")]
    done = subprocess.run(words, cwd=HERE, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "2"]
