"""Manners of the program: how it ends, what it says, and what it never shows."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from moe_retrieval import Moeret
from moe_retrieval.types import IndexReport, Rejected, Skipped
from moeret_cli import bars, render, wording
from tests.program import Done, Run

RECORDS = [
    {"_id": "a", "text": "aspirin lowers the risk of stroke", "domain": "heart", "year": 2020},
    {"_id": "b", "text": "smoking harms the lung", "domain": "lung", "year": 2021},
]


@pytest.fixture
def filled(moeret: Run, tmp_path: Path) -> Run:
    """The program with a store of two domains, one document each."""
    write(tmp_path / "two.jsonl", RECORDS)
    assert moeret("index", "two.jsonl", "--domain-field", "domain").code == 0
    return moeret


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf8")
    return path


def raising(problem: BaseException) -> Callable[..., NoReturn]:
    def call(*_arguments: object, **_named: object) -> NoReturn:
        raise problem

    return call


def program(*words: str, **pipes: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "moeret_cli", *words], stderr=subprocess.PIPE, **pipes)


# --- how it ends


def test_ctrl_c_in_a_query_says_no_more_than_that(moeret: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moeret, "query_many", raising(KeyboardInterrupt()))
    done = moeret("query", "anything")
    assert (done.code, done.out, done.err) == (130, "", "moeret: interrupted\n")


@pytest.mark.parametrize(("verb", "method"), [("index", "index"), ("reindex", "reindexer")])
def test_ctrl_c_in_long_work_says_how_to_go_on(
    moeret: Run, monkeypatch: pytest.MonkeyPatch, verb: str, method: str
) -> None:
    work = types.SimpleNamespace(plan=lambda **_: (), run=raising(KeyboardInterrupt()))
    monkeypatch.setattr(
        Moeret, method, raising(KeyboardInterrupt()) if verb == "index" else lambda _self: work
    )
    done = moeret(*([verb, "."] if verb == "index" else [verb]))
    assert done.code == 130
    assert "the same command goes on from there" in done.err


def test_ctrl_c_while_modules_are_read_shows_no_traceback(
    moeret: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = types.ModuleType("moeret_cli.ending")
    slow.__getattr__ = raising(KeyboardInterrupt())  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "moeret_cli.ending", slow)
    assert moeret("status") == Done(130, "", "moeret: interrupted\n")


def test_the_interpreter_is_not_taken_apart_beside_threads_that_may_want_it() -> None:
    """A thread of LanceDB that wants Python while it ends aborts the process, now and then."""
    code = (
        "import atexit, sys\n"
        "class Late:\n"
        "    def __del__(self): print('taken apart', file=sys.stderr)\n"
        "kept = Late()\n"
        "atexit.register(print, 'ended in order', file=sys.stderr)\n"
        "sys.argv = ['moeret', '--version']\n"
        "from moeret_cli.app import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "ended in order\n")
    assert done.stdout.startswith("moeret ")


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_a_reader_that_goes_is_no_failure(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = program(*words, stdout=writing)
    os.close(writing)
    _out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_results_is_one_sentence() -> None:
    with Path("/dev/full").open("wb") as full:
        process = program("--version", stdout=full)
        _out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == b"moeret: error: could not write the results: No space left on device\n"


def test_what_nobody_expected_is_one_sentence(moeret: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moeret, "status", raising(ZeroDivisionError("by nought")))
    done = moeret("status")
    assert done.code == 1
    assert done.err.startswith("moeret: error: this should not have happened: ZeroDivisionError: by nought\n")
    assert "report" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("way", ["MOERET_DEBUG", "-v"])
def test_what_nobody_expected_has_a_traceback_for_who_asks(
    moeret: Run, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(Moeret, "index", raising(EOFError("early")))
    if way == "MOERET_DEBUG":
        monkeypatch.setenv("MOERET_DEBUG", "1")
    done = moeret("index", ".", *(["-v"] if way == "-v" else []))
    assert done.code == 1
    assert "Traceback" in done.err
    assert "EOFError: early" in done.err


@pytest.mark.parametrize(
    ("words", "problem", "next_step"),
    [
        (["qurey"], "no such command 'qurey'. Did you mean 'query'?", "moeret --help"),
        (["query", "--dmain", "x"], "no such option: --dmain", "moeret query --help"),
        (["index"], "missing argument 'PATH'", "moeret index --help"),
        (["query", "x", "--mode", "loud"], "'loud'", "moeret query --help"),
    ],
)
def test_misuse_is_a_sentence_and_a_next_step(
    moeret: Run, words: list[str], problem: str, next_step: str
) -> None:
    done = moeret(*words)
    assert done.code == 2
    assert done.err.startswith("moeret: error: ")
    assert problem in done.err
    assert done.err.endswith(f"        next: {next_step}\n")


@pytest.mark.parametrize("words", [[], ["domains"]])
def test_no_word_at_all_shows_the_help(moeret: Run, words: list[str]) -> None:
    done = moeret(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: moeret")


# --- what is asked


def test_queries_come_from_standard_input(filled: Run) -> None:
    lines = b'{"_id": "q1", "text": "aspirin"}\n{"_id": "q2", "text": "lung"}\n'
    done = filled("query", "--queries", "-", "--json", stdin=lines)
    assert {hit["query_id"] for hit in done.records()} == {"q1", "q2"}


@pytest.mark.parametrize(("stdin", "reason"), [(b"\xff", "stdin cannot be read"), (b"{", "stdin, line 1")])
def test_bad_queries_on_standard_input_are_a_usage_error(moeret: Run, stdin: bytes, reason: str) -> None:
    done = moeret("query", "--queries", "-", stdin=stdin)
    assert done.code == 2
    assert reason in done.err


def test_a_text_and_queries_exclude_each_other(moeret: Run) -> None:
    done = moeret("query", "text", "--queries", "-")
    assert done.code == 2
    assert "exclude each other" in done.err


def test_a_context_without_a_question_speaks_of_its_own_words_only(moeret: Run) -> None:
    done = moeret("context")
    assert done.code == 2
    assert "moeret context" in done.err
    assert "--queries" not in done.err


@pytest.mark.parametrize("verb", ["query", "context"])
def test_a_question_that_is_no_utf8_is_a_usage_error(moeret: Run, verb: str) -> None:
    done = moeret(verb, "-", stdin=b"caf\xe9")
    assert done.code == 2
    assert "not valid UTF-8" in done.err
    done = moeret(verb, "caf\udce9")
    assert done.code == 2
    assert "the query is not valid UTF-8" in done.err


# --- what it says


def test_a_run_that_accepts_nothing_ends_with_3(moeret: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    done = moeret("index", "empty.txt")
    assert done.code == 3
    assert "nothing was indexed: 1 rejected" in done.err
    assert "the rest" not in done.err
    assert "nothing would be indexed" in moeret("index", "empty.txt", "--dry-run").err
    assert moeret("index", "empty.txt", "--strict").code == 1


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (IndexReport(documents=1, rejected=1, rejections=(Rejected("a", "b"),)), ""),
        (IndexReport(documents=1, unchanged=1, skipped=(Skipped("a", "b"),)), ""),
        (IndexReport(vanished=1), ""),
        (IndexReport(skipped=(Skipped("a", "b"),)), "nothing was indexed: 1 skipped"),
    ],
)
def test_nothing_was_indexed_only_if_no_document_is(report: IndexReport, said: str) -> None:
    assert wording.nothing_indexed(report, dry_run=False) == said


def test_one_thing_is_singular() -> None:
    report = IndexReport(documents=1, chunks=1, encoded=1, domains={"x": 1}, routed={"x": 1}, vanished=1)
    said = [
        *wording.index_summary(report, dry_run=False),
        *wording.index_notes(report, dry_run=False, verbose=False, pruned=False),
    ]
    assert said == [
        "x: 1 chunk",
        "1 document (0 unchanged, 0 removed), 1 chunk in the store, 1 encoded, 0.0 s",
        "routed to x: 1 document without a domain",
        "gone from these paths: 1 stored document; --prune deletes it",
    ]


def test_a_dry_run_speaks_of_what_would_be() -> None:
    report = IndexReport(documents=3, encoded=1200, removed=2, moved=3)
    assert list(wording.index_summary(report, dry_run=True)) == [
        "3 documents (0 unchanged, 2 would be removed, 3 would be moved), 0 chunks in the store, "
        "would encode 1,200 chunks, 0.0 s"
    ]


def test_moved_documents_are_told(moeret: Run, tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", RECORDS[:1])
    moeret("index", "one.jsonl", "--domain", "x")
    assert ", 1 moved)" in moeret("index", "one.jsonl", "--domain", "y").out


def test_nothing_unseen_reaches_the_terminal(moeret: Run, tmp_path: Path) -> None:
    evil = "\x1b[31mred\x07\u202e\u200bbell\x9b"
    record = {"_id": f"id {evil}", "title": f"title\n{evil}", "text": f"text {evil}\r\nmore"}
    write(tmp_path / "evil.jsonl", [record, {"_id": f"{evil}", "text": ""}])
    runs = [
        moeret("index", "evil.jsonl", "--domain", "x", "-v"),
        moeret("domains", "describe", "x", f"it is {evil}"),
        moeret("domains", "list"),
        moeret("status"),
        moeret("query", f"text {evil}", "--explain"),
        moeret("query", f"text {evil}", "--domain", evil),
        moeret("query", "--queries", evil),
        moeret("context", "text"),
        moeret("index", f"nowhere {evil}"),
        moeret(evil),
    ]
    for done in runs:
        shown = done.out + done.err
        assert "red" in shown or "x" in shown
        assert not {letter for letter in shown if ord(letter) < 32 and letter != "\n"}
        assert not set(shown) & set("\x9b\u202e\u200b")
    assert "title [31mredbell" in runs[4].out


def test_json_is_not_cleaned(moeret: Run, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"_id": "a\nb", "text": "some text"}])
    moeret("index", "a.jsonl", "--domain", "x")
    assert moeret("query", "text", "--json").records()[0]["doc_id"] == "a\nb"


class Terminal(io.StringIO):
    """Standard output as a terminal of 40 columns."""

    def isatty(self) -> bool:
        return True


LONG = "a description that goes on and on, " * 10


def test_a_table_for_a_file_is_neither_cut_nor_padded(filled: Run) -> None:
    filled("domains", "describe", "heart", LONG)
    out = filled("domains", "list").out
    assert LONG.strip() in out
    assert [line for line in out.splitlines() if line.endswith(" ")] == []


def test_a_table_on_a_narrow_terminal_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    name = "a-name-of-a-domain-that-is-longer-than-any-terminal-of-forty-columns"
    render.table(("domain",), [(name,)])
    folded = terminal.getvalue().splitlines()[1:]
    assert max(map(len, folded)) <= 40
    assert "".join(folded) == name


def test_status_marks_what_is_empty_and_what_is_low(filled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    found = Moeret.open().status()
    heart, lung = found.domains
    assert lung.index is not None
    low = replace(lung, index=replace(lung.index, recall_at_10=0.91))
    domains = (replace(heart, documents=0, chunks=0, index=None), low)
    monkeypatch.setattr(Moeret, "status", lambda _self: replace(found, domains=domains))
    done = filled("status")
    rows = {line.split()[0]: line for line in done.out.splitlines()[3:]}
    assert "moeret index" not in rows["heart"]
    assert "0.910 (low)" in rows["lung"]
    assert "the index of lung has a recall@10 below 0.98" in done.err


def test_no_hits_names_a_domain_that_is_empty(filled: Run, tmp_path: Path) -> None:
    write(tmp_path / "two.jsonl", [one | {"domain": "lung"} for one in RECORDS])
    assert filled("index", "two.jsonl", "--domain-field", "domain").code == 0
    done = filled("query", "heart", "--domain", "heart")
    assert (done.code, done.err) == (3, "moeret: no hits in heart; --domain NAME searches others\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--domain", "heart", "--mode", "text"], "no hits in heart; --domain NAME searches others"),
        (["--domain", "heart", "--domain", "lung", "--mode", "text"], "no hits in heart, lung\n"),
        (["--domain", "heart", "--where", "year > 2050"], "nothing in heart matches the filter"),
    ],
)
def test_no_hits_says_where_it_looked(filled: Run, words: list[str], said: str) -> None:
    for verb in ("query", "context"):
        done = filled(verb, "zebra", *words)
        assert (done.code, done.out) == (3, "")
        assert said in done.err


def test_a_context_without_hits_is_an_object_where_that_is_asked(filled: Run) -> None:
    done = filled("context", "lung", "--where", "year > 2050", "--json")
    assert done.code == 3
    assert done.records()[0]["citations"] == []


def test_a_context_takes_as_many_hits_as_it_is_told(filled: Run) -> None:
    words = ["context", "lung", "--domain", "heart", "--domain", "lung", "--mode", "vector", "--json"]
    assert [len(filled(*words, "-k", k).records()[0]["citations"]) for k in ("1", "50")] == [1, 2]


def test_progress_begins_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(render, "quiet", False)
    with bars.counting("documents read", "chunks encoded") as told:
        assert told is not None
        told(7, 9)
    assert "0 documents read, loading the encoder" in terminal.getvalue()
    assert "7 documents read, 9 chunks encoded" in terminal.getvalue()


# --- domains and doctor


def test_removing_an_unknown_domain_does_not_ask(filled: Run) -> None:
    done = filled("domains", "remove", "hart")
    assert done.code == 3
    assert "did you mean 'heart'?" in done.err
    assert "Remove" not in done.err


def test_a_dry_removal_removes_nothing(filled: Run) -> None:
    assert "1 document would be removed" in filled("domains", "remove", "heart", "--dry-run").out
    assert "heart" in filled("domains", "list").out


@pytest.mark.parametrize("answer", [b"n\n", b""])
def test_a_removal_that_is_not_confirmed_removes_nothing(filled: Run, answer: bytes) -> None:
    done = filled("domains", "remove", "heart", stdin=answer)
    assert done.code == 130
    assert "nothing was changed (--yes does not ask)" in done.err
    assert "heart" in filled("domains", "list").out


def test_quiet_is_heeded_by_every_verb(filled: Run) -> None:
    for words in (["status"], ["domains", "list"], ["domains", "describe", "heart", "x"], ["reindex"]):
        done = filled(*words, "-q")
        assert (done.code, done.err) == (0, "")
    assert filled("domains", "remove", "heart", "--yes", "-q") == Done(0, "", "")


def test_the_doctor_lists_a_bad_setting(moeret: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOERET_K", "0")
    done = moeret("doctor", "-q", "--json")
    assert done.code == 1
    assert [one["level"] for one in done.records()] == ["failed"]
    assert "a whole number from 1 to 10000" in moeret("doctor").out


@pytest.mark.parametrize("store", ["", "~nobody-of-this-name/store", "caf\udce9"])
def test_a_store_that_can_be_no_folder_is_a_usage_error(moeret: Run, store: str) -> None:
    done = moeret("status", "--store", store)
    assert done.code == 2
    assert "flag: store = " in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["context", "x", "--format", "yaml"], "'--format' / '-f': 'yaml' is not one of 'markdown', 'xml'"),
        (["context", "x", "--budget", "1e3"], "'--budget' / '-b': it should be a valid integer\n"),
        (["query", "x", "--mmr", "much"], "'--mmr': it should be a valid number\n"),
    ],
)
def test_a_value_that_means_nothing_is_said_in_plain_words(moeret: Run, words: list[str], said: str) -> None:
    done = moeret(*words)
    assert (done.code, done.out) == (2, "")
    assert f"moeret: error: invalid value for {said}" in done.err


@pytest.mark.parametrize("verb", ["query", "context", "route"])
def test_an_empty_question_says_how_this_verb_is_asked(moeret: Run, verb: str) -> None:
    for done in (moeret(verb, "  "), moeret(verb, "-", stdin=b"\n")):
        assert (done.code, done.out) == (2, "")
        assert f'the query is empty\n        next: moeret {verb} "a question"' in done.err
