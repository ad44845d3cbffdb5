"""JSON, JSON lines, CSV, TSV and Parquet."""

from __future__ import annotations

import json
import tracemalloc
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import document, documents, put, read, reasons

from moe_retrieval.corpus.readers import Limits, read_corpus
from moe_retrieval.types import Document


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


# --- records ----------------------------------------------------------------------------------------------


def test_fields_are_found_by_their_usual_names_and_the_rest_is_metadata(tmp_path: Path) -> None:
    records = [
        {"_id": "a", "title": "T", "text": "body", "year": 2020},
        {"PMID": 12, "Headline": "H\n\tx", "Abstract": "abstract", "n": 1.5, "ok": True, "none": None},
        {"docid": "c", "text": "", "contents": "second choice", "name": "N"},
    ]
    found = documents(put(tmp_path / "a.jsonl", lines(*records)))
    assert [(item.id, item.title, item.text) for item in found] == [
        ("a", "T", "body"), ("12", "H x", "abstract"), ("c", "N", "second choice"),
    ]  # fmt: skip
    assert [item.metadata for item in found] == [{"year": 2020}, {"n": 1.5, "ok": True}, {}]


def test_a_record_with_a_title_only_has_it_as_its_text(tmp_path: Path) -> None:
    found = document(put(tmp_path / "a.jsonl", lines({"title": "Only a title"})))
    assert (found.id, found.text, found.title) == ("row-1", "Only a title", "Only a title")


def test_metadata_holds_plain_values_and_json_of_nested_ones(tmp_path: Path) -> None:
    record = {
        "text": "t", "tags": ["a", 1, ""], "deep": {"b": [1]}, "mixed": [{"x": 1}], "big": 10**30,
        "k" * 99: "cut", "metadata": {"inner": 3}, "nan": float("nan"), "infinite": float("inf"),
    }  # fmt: skip
    assert document(put(tmp_path / "a.jsonl", lines(record))).metadata == {
        "inner": 3, "tags": ["a", "1"], "deep": '{"b": [1]}', "mixed": '[{"x": 1}]', "big": str(10**30),
        "k" * 64: "cut",
    }  # fmt: skip


def test_at_most_a_hundred_fields_are_kept(tmp_path: Path) -> None:
    record = {"text": "t"} | {f"f{number}": number for number in range(300)}
    assert len(document(put(tmp_path / "a.jsonl", lines(record))).metadata) == 100


def test_the_second_of_two_records_with_one_id_is_rejected(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", lines({"id": "x", "text": "one"}, {"id": "x", "text": "two"}))
    assert [item.text for item in read(path) if isinstance(item, Document)] == ["one"]
    assert reasons(path) == ["duplicate id 'x'"]


# --- JSON -------------------------------------------------------------------------------------------------


def test_a_json_object_is_one_document_and_a_list_is_many(tmp_path: Path) -> None:
    assert document(put(tmp_path / "one.json", '{"text": "t"}')).id == "one.json"
    assert document(put(tmp_path / "named.json", '{"_id": "n", "text": "t"}')).id == "n"
    many = put(tmp_path / "many.json", '[{"text": "t"}, 5, {"text": "u"}]')
    assert [item.id for item in read(many) if isinstance(item, Document)] == ["row-1", "row-3"]
    assert reasons(many) == ["record 2: not a JSON object"]
    wrapped = put(tmp_path / "wrapped.json", '{"count": 1, "articles": [{"id": "w", "text": "t"}]}')
    assert document(wrapped).id == "w"


def test_each_broken_line_is_rejected_with_its_number_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", '{"text": "a"}\n{broken\n\n[1]\n{"year": 1}\n{"text": "b"}')
    assert [item.id for item in read(path) if isinstance(item, Document)] == ["row-1", "row-6"]
    assert [reason.partition(":")[0] for reason in reasons(path)] == ["line 2", "line 4", "line 5"]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    "value", ["[" * 100_000, '{"a":' * 100_000, '{"text": ' + "[" * 900 + "]" * 900 + "}", "9" * 9000]
)
def test_deep_or_huge_json_is_rejected(tmp_path: Path, name: str, value: str) -> None:
    assert len(reasons(put(tmp_path / name, value))) == 1


def test_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    found = document(put(tmp_path / "a.jsonl", r'{"_id": "\ud800", "text": "a\ud800b", "k\udfff": "\udc00"}'))
    assert (found.id, found.text, found.metadata) == ("\ufffd", "a\ufffdb", {"k\ufffd": "\ufffd"})
    assert found.text.encode()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_json_lines_are_decoded_from_what_programs_write(tmp_path: Path, encoding: str) -> None:
    line = '{"text": "naïve and many other plain words"}\r\n'
    found = documents(put(tmp_path / "a.jsonl", (line * 2).encode(encoding)))
    assert [item.text for item in found] == ["naïve and many other plain words"] * 2


def test_a_line_that_is_too_long_is_passed_over(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", lines({"text": "x" * 500}, {"text": "short"}))
    items = read(path, limits=Limits(record_bytes=100))
    assert [item.text for item in items if isinstance(item, Document)] == ["short"]
    assert reasons(path, limits=Limits(record_bytes=100)) == ["line 1: longer than 100 characters"]


def test_binary_bytes_under_a_text_extension_are_one_rejection(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.csv", "a.json"):
        assert reasons(put(tmp_path / name, b"\x00\x01\n" * 500)) == ["binary data, not text"]


def test_memory_stays_flat_over_many_records(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    record = json.dumps({"text": "word " * 2_000}) + "\n"
    with path.open("w") as stream:
        for _ in range(3_000):  # 30 MB
            stream.write(record)
    tracemalloc.start()
    assert sum(1 for _ in read_corpus([str(path)])) == 3_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


# --- CSV and TSV ------------------------------------------------------------------------------------------


def test_csv_rows_are_documents_with_typed_metadata(tmp_path: Path) -> None:
    text = (
        'id,title,text,year,score,zip,note\n01,T,"a, ""quoted""\nline",2020,0.5,007,\n2,U,plain,-3,1e5,0,x\n'
    )
    one, two = documents(put(tmp_path / "a.csv", text))
    assert (one.id, one.text) == ("01", 'a, "quoted"\nline')
    assert one.metadata == {"year": 2020, "score": 0.5, "zip": "007"}
    assert two.metadata == {"year": -3, "score": "1e5", "zip": 0, "note": "x"}


def test_tsv_is_split_at_tabs(tmp_path: Path) -> None:
    assert document(put(tmp_path / "a.tsv", "text\tk\na, b\tv\n")).metadata == {"k": "v"}


def test_csv_from_a_spreadsheet_is_decoded(tmp_path: Path) -> None:
    found = document(
        put(
            tmp_path / "a.csv",
            "text,kind\nna\xefve words about something,caf\xe9 and others\n".encode("cp1252"),
        )
    )
    assert (found.text, found.metadata) == ("naïve words about something", {"kind": "café and others"})


def test_a_row_with_too_many_cells_is_rejected_with_its_line(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", "text,k\na,1\nb,2,3\nc\n\n")
    assert reasons(path) == ["line 3: 3 cells under a header of 2"]
    assert len(read(path)) == 3


def test_a_table_without_a_text_column_is_one_rejection(tmp_path: Path) -> None:
    assert len(reasons(put(tmp_path / "a.csv", "x,y\n1,2\n3,4\n"))) == 1


def test_a_quote_that_never_closes_does_not_hide_the_rest_for_ever(tmp_path: Path) -> None:
    body = 'text\nfine\n"open\n' + "row\n" * 100_000
    items = read(put(tmp_path / "a.csv", body), limits=Limits(record_bytes=200_000))
    assert isinstance(items[0], Document)


# --- Parquet ----------------------------------------------------------------------------------------------


def test_parquet_rows_are_documents(tmp_path: Path) -> None:
    table = pa.table(
        {"_id": ["a", "b"], "text": ["one", None], "title": ["T", None], "year": [2020, 2021],
         "day": [date(2020, 1, 2), None], "tags": [["x", "y"], []], "raw": [b"\xff", None]}
    )  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    items = read(tmp_path / "a.parquet")
    assert isinstance(items[0], Document)
    assert (items[0].id, items[0].title, items[0].text) == ("a", "T", "one")
    assert items[0].metadata == {"year": 2020, "day": "2020-01-02", "tags": ["x", "y"]}
    assert reasons(tmp_path / "a.parquet")[0].startswith("row 2: no text")


def test_a_value_that_repeats_is_not_unpacked_a_thousand_times(tmp_path: Path) -> None:
    long = "word " * 400_000  # 2 MB, a thousand times: 2 GB
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000, pa.int32()), pa.array([long]))
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    before = pa.total_allocated_bytes()
    stream = read_corpus([str(tmp_path / "a.parquet")])
    next(stream)
    assert pa.total_allocated_bytes() - before < 50_000_000


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_parquet_file_is_rejected(tmp_path: Path, cut: float) -> None:
    pq.write_table(
        pa.table({"text": [f"text {number}" for number in range(1000)]}), tmp_path / "whole.parquet"
    )
    whole = (tmp_path / "whole.parquet").read_bytes()
    assert len(reasons(put(tmp_path / "a.parquet", whole[: int(len(whole) * cut)]))) == 1
