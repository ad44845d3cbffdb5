"""Only sound vectors and distinct ids become rows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from storage_builders import DIM, batch_of, rows_of, unit_vectors

from moe_retrieval.errors import BadVectorError, RejectedError, StoreError
from moe_retrieval.hashing import chunk_id, hash63
from moe_retrieval.storage.tables.rows import Row, align, schema, to_batch, to_numpy, with_vectors
from moe_retrieval.types import Chunk


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1.01])
def test_a_vector_that_is_not_of_unit_length_is_refused_by_row(bad: float) -> None:
    vectors = unit_vectors(3)
    vectors[1] = vectors[1] * bad
    with pytest.raises(BadVectorError, match=r"row 1 .*chunk 1"):
        to_batch(rows_of("a", ["x", "y", "z"]), vectors)


@pytest.mark.parametrize("shape", [(2, DIM), (3,), (3, 0)])
def test_vectors_that_do_not_fit_the_chunks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadVectorError, match="3 chunks came with"):
        to_batch(rows_of("a", ["x", "y", "z"]), np.ones(shape, np.float32))


def test_the_same_chunk_twice_in_a_batch_is_refused() -> None:
    rows = rows_of("a", ["x"]) + rows_of("a", ["y"])
    with pytest.raises(StoreError, match="two rows are chunk 0 of 'a'"):
        to_batch(rows, unit_vectors(2))


def test_a_lone_surrogate_is_refused_and_not_a_crash() -> None:
    with pytest.raises(RejectedError):
        to_batch(rows_of("a", ["x \ud800"]), unit_vectors(1))


def test_a_row_carries_its_keys_text_and_metadata() -> None:
    chunk = Chunk("a", "/s", 3, 10, 14, "text", title="T", section="S", page=None, lead="T\n")
    vectors = unit_vectors(1)
    row = to_batch([Row(chunk, parts=5, doc_hash=7, metadata={"year": 2001})], vectors).to_pylist()[0]
    name = chunk_id(row["doc_key"], 3)
    assert (row["id"], row["key"], row["vh"]) == (name, hash63(name.encode()), hash63(vectors[0].tobytes()))
    assert (row["parts"], row["doc_hash"], row["page"], row["title"]) == (5, 7, None, "T")
    assert row["content"][row["lead"] :] == "text"
    assert json.loads(row["meta"]) == {"year": 2001}


def test_each_type_of_a_field_has_its_own_column() -> None:
    values = [2015, "2015?", True, ["a", "b"], None, float("nan"), 10**400]
    rows = [
        Row(Chunk("d", "/s", at, 0, 1, "x"), parts=7, doc_hash=1, metadata={"Pub Year": value})
        for at, value in enumerate(values)
    ]
    columns = to_batch(rows, unit_vectors(7)).to_pydict()
    assert columns["n_pub_year"] == [2015.0, None, None, None, None, None, None]
    assert columns["s_pub_year"][1] == "2015?"
    assert columns["b_pub_year"][2] is True
    assert columns["l_pub_year"][3] == ["a", "b"]


def test_aligning_fills_what_is_missing_with_null_and_drops_what_is_unknown() -> None:
    batch = batch_of(rows_of("a", ["x"], metadata={"year": 1, "odd": 2}))
    wanted = schema(DIM).append(pa.field("s_journal", pa.string())).append(pa.field("n_year", pa.float64()))
    row = align(batch, wanted).to_pylist()[0]
    assert (row["s_journal"], row["n_year"], "n_odd" in row) == (None, 1.0, False)


def test_new_vectors_replace_old_ones_and_their_hashes() -> None:
    batch = batch_of(rows_of("a", ["x", "y"], metadata={"year": 1}), seed=1)
    vectors = unit_vectors(2, dim=4, seed=2)
    fresh = with_vectors(batch, vectors)
    assert np.array_equal(to_numpy(fresh["vector"]), vectors)
    assert fresh["vh"].to_pylist() == [hash63(one.tobytes()) for one in vectors]
    assert fresh["id"].equals(batch["id"])
    assert fresh["n_year"].to_pylist() == [1.0, 1.0]


def test_an_empty_batch_is_possible() -> None:
    assert to_batch([], np.zeros((0, DIM), np.float32)).num_rows == 0
