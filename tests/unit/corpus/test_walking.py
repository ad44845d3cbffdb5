"""Which files are read, in which order, for which domain; and what is refused for safety."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from reading import document, documents, put, read, reasons

from moe_retrieval.corpus.readers import Limits, read_corpus, scope_of
from moe_retrieval.errors import NothingFoundError, UsageError
from moe_retrieval.types import Document, Rejected, Skipped

ROOT = Path(__file__).parents[3]
TEXT = "A text about something.\n"


def layout(items: list[Document | Rejected | Skipped]) -> list[tuple[str, str | None]]:
    return [(item.id, item.domain) for item in items if isinstance(item, Document)]


def skipped(items: list[Document | Rejected | Skipped]) -> dict[str, str]:
    return {Path(item.source).name: item.reason for item in items if isinstance(item, Skipped)}


# --- domains ----------------------------------------------------------------------------------------------


def test_sub_folders_are_domains_in_sorted_order(tmp_path: Path) -> None:
    for name in ("COPD 2/b.txt", "COPD 2/deep/er/a.txt", "Cvd/z.txt"):
        put(tmp_path / name, TEXT)
    assert layout(read(tmp_path)) == [("b.txt", "copd-2"), ("a.txt", "copd-2"), ("z.txt", "cvd")]


def test_a_folder_without_sub_folders_is_itself_the_domain(tmp_path: Path) -> None:
    put(tmp_path / "Heart Failure" / "a.txt", TEXT)
    (tmp_path / "Heart Failure" / "images").mkdir()
    assert layout(read(tmp_path / "Heart Failure")) == [("a.txt", "heart-failure")]


def test_a_file_beside_domain_folders_is_skipped_with_what_to_do(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", TEXT)
    put(tmp_path / "cvd" / "b.txt", TEXT)
    items = read(tmp_path)
    assert layout(items) == [("b.txt", "cvd")]
    assert "--domain" in skipped(items)["a.txt"]


def test_single_files_patterns_and_stdin_have_no_domain(tmp_path: Path) -> None:
    path = put(tmp_path / "x" / "a.txt", TEXT)
    assert document(path).domain is None
    assert [item.domain for item in documents(str(tmp_path / "**" / "*.txt"))] == [None]
    lines = io.BytesIO(b'{"_id": "1", "text": "from a pipe"}\n')
    (piped,) = documents("-", stdin=lines)
    assert (piped.id, piped.source, piped.domain) == ("1", "stdin", None)
    assert not lines.closed


def test_a_given_domain_goes_to_all_files_wherever_they_lie(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", TEXT)
    put(tmp_path / "x" / "b.txt", TEXT)
    assert layout(read(tmp_path, domain="Heart!")) == [("a.txt", "heart"), ("b.txt", "heart")]


def test_a_field_gives_the_domain_and_a_record_without_it_is_rejected(tmp_path: Path) -> None:
    path = put(
        tmp_path / "a.jsonl", '{"_id":"1","text":"t","topic":"Heart Disease"}\n{"_id":"2","text":"t"}\n'
    )
    items = read(path, domain_field="topic")
    assert layout(items) == [("1", "heart-disease")]
    assert reasons(path, domain_field="topic") == ["2: no domain in its field 'topic'"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('["a", "b"]', '["a", "b"]'),
        ('[{"x": 1}]', '[{"x": 1}]'),
        ('{"x": 1}', '{"x": 1}'),
        ('"日本"', '"日本"'),
        ('"- ?"', '"- ?"'),
        ("true", "true"),
        ('"' + "京" * 500 + '"', '"' + "京" * 76 + "..."),
    ],
)
def test_a_field_that_cannot_name_a_domain_is_shown(tmp_path: Path, value: str, shown: str) -> None:
    path = put(tmp_path / "a.jsonl", '{"_id": "1", "text": "t", "topic": ' + value + "}\n")
    assert reasons(path, domain_field="topic") == [f"1: its field 'topic' cannot name a domain: {shown}"]


@pytest.mark.parametrize(
    ("value", "domain"), [("2020", "2020"), ('"[Heart]"', "heart"), ('"{x} 1"', "x-1"), ('"True"', "true")]
)
def test_a_plain_value_of_the_field_names_the_domain(tmp_path: Path, value: str, domain: str) -> None:
    path = put(tmp_path / "a.jsonl", '{"_id": "1", "text": "t", "topic": ' + value + "}\n")
    assert layout(read(path, domain_field="topic")) == [("1", domain)]


def test_a_folder_name_without_letters_is_rejected_once(tmp_path: Path) -> None:
    put(tmp_path / "医学" / "a.txt", TEXT)
    put(tmp_path / "cvd" / "a.txt", TEXT)
    assert len(reasons(tmp_path)) == 1


@pytest.mark.parametrize("options", [{"domain": "医学"}, {"domain": "a", "domain_field": "b"}])
def test_a_domain_that_means_nothing_is_a_usage_error(tmp_path: Path, options: dict[str, str]) -> None:
    put(tmp_path / "a.txt", TEXT)
    with pytest.raises(UsageError):
        read(tmp_path, **options)


# --- paths ------------------------------------------------------------------------------------------------


def test_a_missing_path_is_named_with_its_nearest_sibling_before_anything_is_read(tmp_path: Path) -> None:
    put(tmp_path / "corpora" / "a.txt", TEXT)
    with pytest.raises(UsageError, match=r"there is no .*corpra.*did you mean 'corpora'"):
        read_corpus([str(tmp_path / "corpra" / "a.txt")])


def test_empty_folders_and_patterns_without_match_are_nothing_found(tmp_path: Path) -> None:
    put(tmp_path / "picture.png", b"\x89PNG")
    with pytest.raises(NothingFoundError):
        read_corpus([str(tmp_path)])
    with pytest.raises(NothingFoundError):
        read_corpus([str(tmp_path / "*.txt")])


def test_a_name_with_pattern_characters_is_taken_as_it_is(tmp_path: Path) -> None:
    assert document(put(tmp_path / "[1]*.txt", TEXT)).id == "[1]*.txt"


def test_the_source_is_the_resolved_path_and_is_the_same_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "cvd" / "a.txt", TEXT)
    monkeypatch.chdir(tmp_path)
    assert document(Path("cvd/../cvd/a.txt")).source == path.resolve().as_posix()


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    path = put(tmp_path / "cvd" / "a.txt", TEXT)
    assert len(documents(tmp_path, path, str(tmp_path / "*" / "*.txt"))) == 1


def test_evaluation_files_hidden_ones_stores_and_other_formats_are_skipped(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", TEXT)
    for name in (
        "queries.jsonl",
        "queries-dev.jsonl",
        "qrels.tsv",
        "qrels/test.tsv",
        ".hidden/a.txt",
        "x.png",
    ):
        put(tmp_path / name, TEXT)
    put(tmp_path / "old" / "store.json", "{}")
    put(tmp_path / "old" / "catalog" / "a.txt", TEXT)
    items = read(tmp_path)
    assert [item.id for item in items if isinstance(item, Document)] == ["a.txt"]
    assert set(skipped(items)) == {
        "queries.jsonl", "queries-dev.jsonl", "qrels.tsv", "qrels", ".hidden", "x.png", "old",
    }  # fmt: skip
    with pytest.raises(UsageError, match="is a moeret store"):
        read_corpus([str(tmp_path / "old")])


# --- links, devices, permissions --------------------------------------------------------------------------


def test_links_inside_are_read_once_and_links_out_are_rejected(tmp_path: Path) -> None:
    outside = put(tmp_path / "secret.txt", "outside")
    put(tmp_path / "root" / "b" / "real.txt", TEXT)
    (tmp_path / "root" / "a").mkdir()
    for name, target in {
        "a/same.txt": "../b/real.txt",
        "a/out.txt": str(outside),
        "a/up": "..",
        "b/gone": "nowhere",
    }.items():
        (tmp_path / "root" / name).symlink_to(target)
    items = read(tmp_path / "root")
    assert layout(items) == [("real.txt", "b")]
    assert sorted(item.reason for item in items if isinstance(item, Rejected)) == [
        "a link to nothing",
        "links out of the tree",
    ]


def test_a_link_to_a_hidden_folder_inside_is_followed(tmp_path: Path) -> None:
    put(tmp_path / ".objects" / "a.txt", TEXT)
    (tmp_path / "cvd").symlink_to(".objects")
    assert layout(read(tmp_path, domain="x")) == [("a.txt", "x")]


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", TEXT)
    os.mkfifo(tmp_path / "pipe.txt")
    assert reasons(tmp_path) == ["not a regular file"]
    assert reasons(tmp_path / "pipe.txt") == ["not a regular file"]


def test_a_name_that_is_not_utf8_is_rejected_printably(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", TEXT)
    (tmp_path / os.fsdecode(b"b\xff.txt")).write_text(TEXT)
    (found,) = [item for item in read(tmp_path) if isinstance(item, Rejected)]
    assert "UTF-8" in found.reason
    assert found.source.encode()


LOCKED = """
import os, sys
from moe_retrieval.corpus import readers, text_formats
if os.geteuid() == 0:
    os.setuid(65534)  # root may read everything
for item in readers.read_corpus(sys.argv[1:], domain="x"):
    print(type(item).__name__, getattr(item, "reason", item.id if hasattr(item, "id") else ""))
"""


def test_files_and_folders_that_may_not_be_read_are_rejected() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        put(folder / "a.txt", TEXT)
        put(folder / "b.txt", TEXT).chmod(0)
        put(folder / "closed" / "c.txt", TEXT).parent.chmod(0)
        folder.chmod(0o755)
        ran = subprocess.run(
            [sys.executable, "-c", LOCKED, name], capture_output=True, text=True, check=False, cwd=ROOT
        )
        (folder / "closed").chmod(0o700)
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "Document a.txt",
        "Rejected cannot be read: Permission denied",
        "Rejected cannot be listed: Permission denied",
    ]


def test_a_loop_of_links_is_rejected(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", TEXT)
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    assert reasons(tmp_path) == ["a link to nothing"]
    assert len(reasons(tmp_path / "loop.txt")) == 1
    assert str(tmp_path / "loop.txt") in scope_of([str(tmp_path / "loop.txt")])


# --- sizes and contents -----------------------------------------------------------------------------------


def test_a_large_file_is_rejected_unless_its_format_is_streamed(tmp_path: Path) -> None:
    small = Limits(file_bytes=100, record_bytes=100)
    for name in ("a.txt", "a.md", "a.html", "a.json", "a.pdf", "a.docx"):
        assert "larger than 100 bytes" in reasons(put(tmp_path / name, "x" * 101), limits=small)[0]
    lines = '{"_id": "%d", "text": "words"}\n'
    path = put(tmp_path / "a.jsonl", "".join(lines % number for number in range(50)))
    assert len(documents(path, limits=small)) == 50


def test_a_document_with_too_much_text_is_rejected(tmp_path: Path) -> None:
    assert (
        "more than 5 characters" in reasons(put(tmp_path / "a.txt", "abcdef"), limits=Limits(text_chars=5))[0]
    )


@pytest.mark.parametrize("content", [b"", b" \n\t\n", b"\x00\x01\x02\x03" * 20, bytes(range(1, 32)) * 9])
def test_files_without_text_are_rejected(tmp_path: Path, content: bytes) -> None:
    assert len(reasons(put(tmp_path / "a.txt", content))) == 1


@pytest.mark.parametrize("name", ["blank.md", "blank.txt", "blank.html"])
def test_a_reason_does_not_repeat_the_file_s_name(tmp_path: Path, name: str) -> None:
    assert reasons(put(tmp_path / name, " \n")) == ["no text"]
    assert reasons(put(tmp_path / name, "words"), limits=Limits(text_chars=2)) == [
        "more than 2 characters of text"
    ]
    assert reasons(put(tmp_path / name, "words"), domain_field="topic") == ["no domain in its field 'topic'"]


def test_a_reason_names_the_record_in_one_line(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", '{"_id": "two\\nlines", "text": "words"}\n')
    assert reasons(path, limits=Limits(text_chars=2)) == ["two lines: more than 2 characters of text"]


# --- scope ------------------------------------------------------------------------------------------------


def test_a_stored_source_is_in_scope_if_it_lies_under_a_path_even_when_it_is_gone(tmp_path: Path) -> None:
    put(tmp_path / "cvd" / "a.txt", TEXT)
    root = tmp_path.resolve().as_posix()
    folder, file = scope_of([str(tmp_path / "cvd")]), scope_of([str(tmp_path / "cvd" / "a.txt")])
    assert f"{root}/cvd/gone.txt" in folder
    assert f"{root}/cvd2/gone.txt" not in folder
    assert f"{root}/cvd/a.txt" in file
    assert f"{root}/cvd/a.txt.bak" not in file
    assert "stdin" not in folder


def test_a_pattern_has_the_scope_of_what_it_matches(tmp_path: Path) -> None:
    root = tmp_path.resolve().as_posix()
    flat, deep = scope_of([f"{root}/c*/[ab].txt"]), scope_of([f"{root}/**/*.txt"])
    assert f"{root}/cvd/a.txt" in flat
    assert f"{root}/cvd/c.txt" not in flat
    assert f"{root}/cvd/x/a.txt" not in flat
    assert f"{root}/cvd/x/a.txt" in deep
    assert f"{root}/a.txt" in deep
    assert f"{root}/a.md" not in deep
    assert f"{root}/cvd/x.md" in scope_of([f"{root}/c*"])
