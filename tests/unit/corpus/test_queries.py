"""Query files: what is read from them, and what their messages say."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_retrieval.corpus.queries import parse_queries, read_queries
from moe_retrieval.errors import UsageError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
SHARED_FOLDER = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queries.jsonl"


def test_texts_come_by_id_in_the_file_s_order(path: Path) -> None:
    path.write_text('{"_id": "q2", "text": "two"}\n{"_id": "q1", "text": "one"}\n', encoding="utf8")
    assert list(read_queries(path).items()) == [("q2", "two"), ("q1", "one")]


@SHARED_FOLDER
@given(st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=5), st.booleans())
def test_what_json_wrote_is_read_back(path: Path, queries: dict[str, str], ascii_only: bool) -> None:
    lines = [
        json.dumps({"_id": name, "text": text}, ensure_ascii=ascii_only) for name, text in queries.items()
    ]
    path.write_text("\n".join(lines), encoding="utf8", newline="")
    assert read_queries(path) == queries


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_line_separator_inside_a_text_does_not_end_the_line(path: Path, separator: str) -> None:
    path.write_text('{"_id": "q1", "text": "a' + separator + 'b"}\n', encoding="utf8")
    assert read_queries(path) == {"q1": f"a{separator}b"}


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_line_endings_of_other_systems_are_line_endings(path: Path, ending: str) -> None:
    path.write_bytes(ending.join(['{"_id": "a", "text": "x"}', '{"_id": "b", "text": "y"}', ""]).encode())
    assert read_queries(path) == {"a": "x", "b": "y"}


def test_a_byte_order_mark_is_no_part_of_the_first_query(path: Path) -> None:
    path.write_text('{"_id": "q1", "text": "x"}', encoding="utf-8-sig")
    assert read_queries(path) == {"q1": "x"}


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"_id": "a", "id": "b"}, "a"),
        ({"id": "b"}, "b"),
        ({"_id": 7}, "7"),
        ({"_id": 0}, "0"),
        ({}, "2"),
        ({"_id": None}, "2"),
        ({"_id": None, "id": "b"}, "b"),
    ],
)
def test_a_query_is_named_by_its_first_id_or_its_line(
    path: Path, record: dict[str, object], name: str
) -> None:
    path.write_text("\n" + json.dumps({**record, "text": "x"}), encoding="utf8")
    assert read_queries(path) == {name: "x"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is no JSON"),
        ("text", "line 2 is no JSON"),
        ("3", "line 2 has no text"),
        ("[]", "line 2 has no text"),
        ("{}", "line 2 has no text"),
        ('{"text": null}', "line 2 has no text"),
        ('{"text": 3}', "line 2 has no text"),
        ('{"text": " "}', "line 2 has no text"),
        ('{"_id": "a", "text": "y"}', "line 2: query id 'a' stands twice"),
        ("[" * 100_000, "line 2 is nested too deeply"),
        ('{"text": ' + "[" * 100_000, "line 2 is nested too deeply"),
        (r'{"text": "a\ud800b"}', "line 2 holds half a character"),
        (r'{"_id": "\udc00", "text": "x"}', "line 2 holds half a character"),
    ],
)
def test_a_message_names_file_and_line(path: Path, line: str, message: str) -> None:
    path.write_text('{"_id": "a", "text": "x"}\n' + line, encoding="utf8")
    with pytest.raises(UsageError, match=f"queries.jsonl, {message}"):
        read_queries(path)


@SHARED_FOLDER
@given(st.binary(max_size=60))
def test_any_bytes_are_queries_or_a_usage_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        read_queries(path)
    except UsageError as error:
        assert error.hint


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_queries_is_a_usage_error(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf8")
    with pytest.raises(UsageError, match="holds no queries"):
        read_queries(path)


def test_a_file_that_is_not_utf8_is_a_usage_error(path: Path) -> None:
    path.write_bytes(b'{"text": "\xff"}')
    with pytest.raises(UsageError, match=r"cannot be read: .*; give a file of JSON lines in UTF-8"):
        read_queries(path)


def test_a_missing_file_is_a_usage_error(path: Path) -> None:
    with pytest.raises(UsageError, match=r"queries\.jsonl cannot be read"):
        read_queries(path)


# --- lines that come from elsewhere -----------------------------------------------------------------------


def test_lines_are_parsed_with_or_without_their_ends() -> None:
    lines = ['\ufeff{"_id": "a", "text": "x"}\r\n', "\n", '{"text": "y"}']
    assert parse_queries(lines, name="stdin") == {"a": "x", "3": "y"}


def test_a_message_names_where_the_lines_came_from() -> None:
    with pytest.raises(UsageError, match="stdin, line 2 is no JSON"):
        parse_queries(['{"text": "x"}', "{"], name="stdin")
    with pytest.raises(UsageError, match="stdin holds no queries"):
        parse_queries([], name="stdin")


def test_a_line_of_undecodable_bytes_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="stdin, line 1 holds half a character"):
        parse_queries([b'{"text": "\xff"}'.decode(errors="surrogateescape")], name="stdin")


@pytest.mark.parametrize("path", [None, Path("-")])
def test_queries_are_read_from_standard_input(path: Path | None) -> None:
    data = '{"_id": "a", "text": "naïve"}\r{"_id": "b", "text": "y"}\r\n'.encode("utf-8-sig")
    assert read_queries(path, stdin=io.BytesIO(data)) == {"a": "naïve", "b": "y"}
    with pytest.raises(UsageError, match=r"stdin cannot be read: .*; .*UTF-8"):
        read_queries(path, stdin=io.BytesIO(b'{"text": "\xff"}'))
    with pytest.raises(UsageError, match="standard input, and there is none"):
        read_queries(path)
