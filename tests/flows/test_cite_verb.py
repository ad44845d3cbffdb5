"""`moeret context` and `moeret cite verify`: a context printed once can be checked at any time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.program import Run, run_moeret

TEXTS = {
    "heart": "Statins lower the risk of a heart attack. They are taken every day.",
    "lung": "Home oxygen is worth it where the lungs are weak. It is used at night.",
}
ASKED = ("context", "statins or oxygen", "--domain", "heart", "--domain", "lung")


@pytest.fixture
def filled(moeret: Run, tmp_path: Path) -> Run:
    for domain, text in TEXTS.items():
        (tmp_path / "corpus" / domain).mkdir(parents=True)
        (tmp_path / "corpus" / domain / f"{domain}.txt").write_text(text)
    moeret("index", "corpus")
    return moeret


@pytest.fixture
def cited(filled: Run, tmp_path: Path) -> Path:
    """A file with what `moeret context --json` printed: two citations."""
    file = tmp_path / "cited.json"
    file.write_text(filled(*ASKED, "--json").out)
    return file


def test_what_nobody_touched_is_verified(filled: Run, cited: Path) -> None:
    done = filled("cite", "verify", cited)
    assert done.code == 0
    assert [" holds " in line for line in done.out.splitlines()] == [True, True]
    assert "2 citations, all as they were cited" in done.err


def test_an_edited_source_is_named_and_ends_with_1(filled: Run, cited: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus" / "lung" / "lung.txt").write_text("Something else.")
    done = filled("cite", "verify", cited)
    assert done.code == 1
    (failed,) = [line for line in done.out.splitlines() if "FAILS" in line]
    assert "lung.txt" in failed
    assert "source changed, store same, table version same (its source no longer has this text)" in failed
    assert "1 of 2 citations as they were cited" in done.err


def test_json_is_a_verdict_per_line(filled: Run, cited: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus" / "lung" / "lung.txt").unlink()
    done = filled("cite", "verify", cited, "--json")
    found = {one["doc_id"]: (one["in_source"], one["holds"]) for one in done.records()}
    assert found == {"heart.txt": ("same", True), "lung.txt": ("gone", False)}


def test_standard_input_is_verified_too(filled: Run, cited: Path) -> None:
    assert filled("cite", "verify", "-", stdin=cited.read_bytes()).code == 0


@pytest.mark.parametrize("content", [b"", b"no json", b"\xff\xfe", b'{"text": 1}'])
def test_a_file_that_is_no_context_is_a_usage_error(filled: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    done = filled("cite", "verify", tmp_path / "bad.json")
    assert (done.code, done.out) == (2, "")
    assert "next: give what moeret context --json has printed" in done.err


def test_half_a_character_is_a_usage_error(filled: Run, cited: Path) -> None:
    cited.write_text(cited.read_text().replace('"doc_id": "heart.txt"', '"doc_id": "\\ud800"'))
    done = filled("cite", "verify", cited)
    assert (done.code, done.out) == (2, "")
    assert "'doc_id' is '\\ud800'" in done.err


def test_a_context_that_cites_nothing_has_nothing_to_check(filled: Run) -> None:
    empty = filled("context", "oxygen", "--where", "title = 'none'", "--json")
    assert empty.code == 3
    done = filled("cite", "verify", "-", stdin=empty.out.encode())
    assert (done.code, done.out) == (0, "")
    assert "there is nothing to check" in done.err


def test_a_file_that_is_not_there_is_a_usage_error(filled: Run) -> None:
    done = filled("cite", "verify", "none.json")
    assert done.code == 2
    assert "none.json cannot be read" in done.err


@pytest.mark.parametrize("words", [["--json"], ["--format", "json"], ["--format", "xml", "--json"]])
def test_a_context_as_json_has_five_keys(filled: Run, words: list[str]) -> None:
    (record,) = filled(*ASKED, *words).records()
    assert sorted(record) == ["budget", "citations", "generation", "text", "tokens"]


def test_messages_are_printed_as_one_list(filled: Run) -> None:
    system, user = json.loads(filled(*ASKED, "--format", "messages").out)
    assert (system["role"], user["role"]) == ("system", "user")
    assert user["content"].endswith("Question: statins or oxygen")


def test_tokens_are_counted_with_the_tokenizer_that_is_named(filled: Run, tmp_path: Path) -> None:
    """One that makes a token of every byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: at for at, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    words = [*ASKED, "--tokenizer", "tokenizer.json", "--json"]
    (record,) = filled(*words, "--budget", "2000").records()
    assert record["tokens"] == len(record["text"].encode())
    assert filled(*words, "--budget", "60").code == 2


def test_a_tokenizer_of_the_settings_counts_as_one_that_is_named(
    filled: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOERET_TOKENIZER", "nowhere.json")
    done = filled(*ASKED)
    assert done.code == 2
    assert "there is no tokenizer 'nowhere.json'" in done.err


def test_quotas_and_order_reach_the_context(filled: Run) -> None:
    (record,) = filled(*ASKED, "--per-document", "1", "--order", "ends-first", "--json").records()
    assert len(record["citations"]) == 2
    done = filled(*ASKED, "--per-domain", "0")
    assert (done.code, "leave nothing" in done.err) == (2, True)


@pytest.mark.parametrize("form", ["markdown", "xml", "json", "messages"])
def test_another_process_prints_the_same_bytes(filled: Run, form: str) -> None:
    words = [*ASKED, "--format", form]
    printed = subprocess.run(
        [sys.executable, "-m", "moeret_cli", *words],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},  # here it is another, by chance
    ).stdout
    assert printed == filled(*words).out.encode()


def test_cite_alone_shows_its_verbs() -> None:
    assert "verify" in run_moeret("cite", "--help").out
