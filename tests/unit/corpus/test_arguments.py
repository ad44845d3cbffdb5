"""What the paths of a run stand for: what is refused, what may be gone, and what then is in scope."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from reading import document, documents, put, read

from moe_retrieval.corpus.arguments import static_prefix
from moe_retrieval.corpus.readers import read_corpus, scope_of
from moe_retrieval.errors import NothingFoundError, UsageError
from moe_retrieval.types import Document, Rejected

ROOT = Path(__file__).parents[3]
TEXT = "A text about something.\n"
UNUSABLE = {
    "": "a path is empty",
    "a\udcff.txt": r"the path a\\udcff\.txt is not UTF-8",
    "a\udcff*.txt": r"the path a\\udcff\*\.txt is not UTF-8",
    "a\0.txt": "null character",
    "~nosuchuser/x": "home folder of ~nosuchuser/x is not known; .*./~nosuchuser/x",
    "~nosuchuser/*.txt": "home folder of ~nosuchuser/",
}


# --- what no path can be ----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing_ok", [False, True])
@pytest.mark.parametrize(("path", "message"), UNUSABLE.items())
def test_a_path_that_means_nothing_is_a_usage_error(path: str, message: str, missing_ok: bool) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_corpus([path], missing_ok=missing_ok)
    assert caught.value.hint
    assert str(caught.value).encode()


@pytest.mark.parametrize(("path", "message"), UNUSABLE.items())
def test_a_path_that_means_nothing_has_no_scope(path: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        scope_of([path])


@pytest.mark.parametrize(("path", "message"), UNUSABLE.items())
def test_a_pattern_that_means_nothing_begins_nowhere(path: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        static_prefix(path)


def test_a_name_that_begins_with_a_tilde_is_read_as_the_hint_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "~nosuchuser" / "x.txt", TEXT)
    monkeypatch.chdir(tmp_path)
    assert document("./~nosuchuser/x.txt").id == document("./~nosuchuser/*.txt").id == "x.txt"
    assert f"{tmp_path.resolve()}/~nosuchuser/x.txt" in scope_of(["./~nosuchuser/*.txt"])


# --- what is gone -----------------------------------------------------------------------------------------


def test_what_is_gone_yields_nothing_where_that_is_allowed(tmp_path: Path) -> None:
    put(tmp_path / "pictures" / "a.png", b"\x89PNG")
    (tmp_path / "empty").mkdir()
    put(tmp_path / "file.txt", TEXT)
    for gone in ("gone", "gone/deeper.txt", "file.txt/below", "empty", "pictures", "*.md", "gone/**/*.txt"):
        assert read(tmp_path / gone, missing_ok=True) == []


def test_what_is_there_is_read_beside_what_is_gone(tmp_path: Path) -> None:
    put(tmp_path / "cvd" / "a.txt", TEXT)
    (found,) = documents(tmp_path / "gone", tmp_path / "cvd", missing_ok=True)
    assert (found.id, found.domain) == ("a.txt", "cvd")


def test_what_is_gone_stays_in_scope(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    root = tmp_path.resolve().as_posix()
    for path in ("gone", "empty", "*/*.txt"):
        assert f"{root}/{path.replace('*', 'gone')}/a.txt" in scope_of([str(tmp_path / path)])


def test_a_store_is_refused_even_where_paths_may_be_gone(tmp_path: Path) -> None:
    put(tmp_path / "store.json", "{}")
    (tmp_path / "catalog").mkdir()
    with pytest.raises(UsageError, match="is a moeret store"):
        read_corpus([str(tmp_path)], missing_ok=True)


def test_a_missing_path_says_how_to_delete_its_documents(tmp_path: Path) -> None:
    put(tmp_path / "corpora" / "a.txt", TEXT)
    with pytest.raises(UsageError, match=r"did you mean 'corpora'.*to delete its documents.*--prune"):
        read_corpus([str(tmp_path / "corpra")])


@pytest.mark.parametrize("name", ["empty", "*.txt"])
def test_what_holds_nothing_is_an_error_unless_it_is_allowed(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingFoundError):
        read_corpus([str(tmp_path / name)])


UNREACHABLE = """
import os, sys
from moe_retrieval.corpus import readers, text_formats
from moe_retrieval.errors import UsageError
if os.geteuid() == 0:
    os.setuid(65534)  # root may read everything
for path in sys.argv[1:]:
    try:
        print(list(readers.read_corpus([path], missing_ok=True)))
    except UsageError as error:
        print(error.message.removeprefix(path))
"""


def test_what_cannot_be_looked_at_is_not_gone() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        closed, unlisted = Path(name, "closed"), Path(name, "unlisted")
        for folder, mode in ((closed, 0o600), (unlisted, 0o711)):
            put(folder / "a.txt", TEXT)
            folder.chmod(mode)
        Path(name).chmod(0o755)
        ran = subprocess.run(
            [sys.executable, "-c", UNREACHABLE, f"{closed}/a.txt", f"{closed}/*.txt", f"{unlisted}/*.txt"],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        closed.chmod(0o700)
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [" cannot be looked at: Permission denied"] * 3


# --- standard input ---------------------------------------------------------------------------------------


def piped(*lines: bytes) -> list[str]:
    items = read("-", stdin=io.BytesIO(b"\n".join(lines)))
    return [item.id if isinstance(item, Document) else item.reason for item in items]


def test_piped_records_without_an_id_are_named_by_what_they_say() -> None:
    one, two = piped(b'{"text": "one"}', b'{"text": "two"}')
    assert piped(b'{"text": "two"}') == [two]
    assert one != two
    assert piped(b'{"title": "one", "text": "t"}') != piped(b'{"title": "on", "text": "et"}')
    assert int(one, 16) < 2**63
    assert len(one) == 16


def test_piped_records_keep_an_id_they_have() -> None:
    assert piped(b'{"_id": "a", "text": "one"}') == ["a"]


def test_a_record_piped_twice_at_once_is_a_duplicate() -> None:
    name, reason = piped(b'{"text": "one"}', b'{"text": "one"}')
    assert reason == f"duplicate id {name!r}"


def test_records_of_a_file_are_named_by_their_place(tmp_path: Path) -> None:
    assert document(put(tmp_path / "a.jsonl", '{"text": "one"}')).id == "row-1"


def test_a_pipe_is_not_the_whole_of_what_was_piped(tmp_path: Path) -> None:
    assert "stdin" not in scope_of(["-"])
    assert "stdin" not in scope_of(["-", str(tmp_path)])
    assert f"{tmp_path.resolve()}/a.txt" in scope_of(["-", str(tmp_path)])


# --- names that are not UTF-8 -----------------------------------------------------------------------------


def test_a_folder_whose_name_is_not_utf8_is_called_one(tmp_path: Path) -> None:
    put(tmp_path / "cvd" / "a.txt", TEXT)
    for name in (b"\xff", b"b\xff"):
        folder = tmp_path / os.fsdecode(name)
        put(folder / "a.txt", TEXT)
        put(folder / "deeper" / "b.txt", TEXT)
    expected = [
        (f"{tmp_path.resolve()}/{name}", "the folder's name is not UTF-8; rename it")
        for name in (r"b\udcff", r"\udcff")
    ]
    for options in ({}, {"domain": "x"}):
        items = [item for item in read(tmp_path, **options) if isinstance(item, Rejected)]
        assert [(item.source, item.reason) for item in items] == expected


def test_a_file_is_not_blamed_for_its_folder_s_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    put(folder / "a.txt", TEXT)
    monkeypatch.chdir(folder)
    for path in ("a.txt", "*.txt", "."):
        (found,) = read(path)
        assert getattr(found, "reason", "") == "the folder's name is not UTF-8; rename it"
        assert found.source.encode()


def test_a_skipped_file_is_named_printably(tmp_path: Path) -> None:
    put(tmp_path / "cvd" / "a.txt", TEXT)
    put(tmp_path / os.fsdecode(b"b\xff.txt"), TEXT)
    assert all(item.source.encode() for item in read(tmp_path))
