"""Bad input gets a sentence with the next step, an exit code by class, and loses nothing."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from tests.program import Done, Run

GOOD = "A good document about nothing in particular, long enough to be indexed."


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with one good document; a test adds a bad one."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "good.txt").write_text(GOOD, encoding="utf8")
    return folder


def indexed_beside(moeret: Run, corpus: Path, *, reason: str) -> Done:
    """The run indexed the good document, listed the bad one with this reason, and ended with 0; strict with
    1.
    """
    done = moeret("index", corpus)
    assert done.code == 0
    assert "1 document (" in done.out
    assert "rejected" in done.err
    assert reason in done.err
    assert "warning: 1 rejected" in done.err
    assert moeret("index", corpus, "--strict").code == 1
    return done


def test_a_missing_path_is_named_with_its_nearest_sibling(moeret: Run, corpus: Path) -> None:
    done = moeret("index", corpus / "god.txt")
    assert done.code == 2
    assert "god.txt" in done.err
    assert "good.txt" in done.err


def test_an_empty_folder_holds_nothing(moeret: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = moeret("index", tmp_path / "empty")
    assert done.code == 3
    assert "empty" in done.err


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.txt", b"", "empty"),
        ("spaces.md", b" \n\t ", "no text"),
        ("binary.txt", bytes(range(256)) * 8, "binary"),
        ("cut.docx", b"PK\x03\x04 and then nothing", "docx"),
        ("cut.pdf", b"%PDF-1.7\n1 0 obj\n<< /Type", "PDF"),
        ("cut.parquet", b"PAR1 and then nothing", "parquet"),
        ("broken.json", b'{"title": "x"', "JSON"),
        ("bomb.xml", b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><article>&c;</article>', "entit"),
    ],
)
def test_a_bad_file_is_rejected_with_its_reason(
    moeret: Run, corpus: Path, name: str, content: bytes, reason: str
) -> None:
    (corpus / name).write_bytes(content)
    done = indexed_beside(moeret, corpus, reason=name)
    assert reason.lower() in done.err.lower()


def test_a_pdf_with_a_password_is_rejected(moeret: Run, corpus: Path) -> None:
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(200, 200)
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(corpus / "locked.pdf")
    indexed_beside(moeret, corpus, reason="password")


def test_a_file_of_300_mb_is_rejected_unread(moeret: Run, corpus: Path) -> None:
    with (corpus / "huge.txt").open("wb") as stream:
        stream.truncate(300_000_000)
    indexed_beside(moeret, corpus, reason="larger than 100,000,000 bytes")


def test_a_link_out_of_the_folder_is_not_followed(moeret: Run, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "private.txt").write_text("a secret that no search should show", encoding="utf8")
    (corpus / "link.txt").symlink_to(tmp_path / "private.txt")
    indexed_beside(moeret, corpus, reason="link")
    assert "secret" not in moeret("query", "a secret that no search should show").out


def test_a_zip_bomb_is_rejected(moeret: Run, corpus: Path) -> None:
    with zipfile.ZipFile(corpus / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", b"\0" * 300_000_000)
    indexed_beside(moeret, corpus, reason="bomb.docx")


def test_the_second_of_two_equal_ids_is_rejected(moeret: Run, tmp_path: Path) -> None:
    records = [{"_id": "a", "text": "the first text"}, {"_id": "a", "text": "the second text"}]
    (tmp_path / "twice.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf8")
    done = moeret("index", tmp_path / "twice.jsonl", "--domain", "x", "--json")
    report = done.records()[-1]
    assert (done.code, report["documents"], report["rejected"]) == (0, 1, 1)
    assert "duplicate id" in report["rejections"][0]["reason"]


def test_strange_ids_come_back_as_they_are(moeret: Run, tmp_path: Path) -> None:
    names = ["it's", 'a "quote"', "new\nline", "\U0001f9ec", "x' OR '1'='1", "-1", "a/b\\c"]
    lines = [json.dumps({"_id": name, "text": f"text number {at}"}) for at, name in enumerate(names)]
    (tmp_path / "ids.jsonl").write_text("\n".join(lines), encoding="utf8")
    assert moeret("index", tmp_path / "ids.jsonl", "--domain", "x").code == 0
    found = moeret("query", "text number", "--json", "-k", "20").records()
    assert sorted(hit["doc_id"] for hit in found) == sorted(names)


def test_a_broken_line_is_named_and_the_rest_goes_on(moeret: Run) -> None:
    done = moeret("index", "-", "--domain", "x", "--json", stdin=b'{"_id": "1", "text": "fine"}\nnot json\n')
    report = done.records()[-1]
    assert (report["documents"], report["rejected"]) == (1, 1)
    assert "line 2" in report["rejections"][0]["source"] + report["rejections"][0]["reason"]


def test_a_model_that_gives_nan_is_stopped(
    moeret: Run, corpus: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    import numpy as np
    from safetensors.numpy import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    tensors = load_file(broken / "model.safetensors")
    name = next(name for name in tensors if name.endswith("word_embeddings.weight"))
    tensors[name] = np.full_like(tensors[name], np.nan)
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setenv("MOERET_MODEL", str(broken))
    done = moeret("index", corpus)
    assert done.code == 1
    assert "not finite" in done.err


def test_an_unknown_domain_is_answered_with_the_nearest(moeret: Run, corpus: Path) -> None:
    moeret("index", corpus, "--domain", "cardio")
    done = moeret("query", "anything", "--domain", "cardoi")
    assert done.code == 3
    assert "did you mean 'cardio'?" in done.err


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_query_is_refused(moeret: Run, corpus: Path, text: str) -> None:
    moeret("index", corpus)
    done = moeret("query", text)
    assert done.code == 2
    assert "empty" in done.err


def test_a_query_of_100_000_characters_is_answered(moeret: Run, corpus: Path) -> None:
    moeret("index", corpus)
    done = moeret("query", "-", "--json", stdin=b"document " * 11_112)
    assert done.code == 0
    assert done.records()[0]["doc_id"] == "good.txt"


def test_a_query_without_a_store_says_how_to_make_one(moeret: Run) -> None:
    done = moeret("query", "anything")
    assert done.code == 3
    assert "moeret index" in done.err


@pytest.mark.parametrize("k", ["0", "-3", "1000000000"])
def test_k_out_of_range_is_refused(moeret: Run, corpus: Path, k: str) -> None:
    moeret("index", corpus)
    assert moeret("query", "anything", "-k", k).code == 2


def test_a_store_of_a_newer_version_is_refused_by_name(moeret: Run, corpus: Path, tmp_path: Path) -> None:
    moeret("index", corpus)
    marker = tmp_path / "store" / "store.json"
    marker.write_text(
        json.dumps(json.loads(marker.read_text(encoding="utf8")) | {"format": 99}), encoding="utf8"
    )
    done = moeret("query", "anything")
    assert done.code == 1
    assert "format 99" in done.err
    assert "upgrade" in done.err


def test_a_damaged_index_file_is_rebuilt_with_a_notice(moeret: Run, corpus: Path, tmp_path: Path) -> None:
    moeret("index", corpus)
    file = next((tmp_path / "store" / "indexes").glob("*.faiss"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    done = moeret("query", GOOD, "--json")
    assert done.code == 0
    assert done.records()[0]["doc_id"] == "good.txt"
    assert "rebuilt" in done.err


def test_another_model_than_the_stores_is_refused(moeret: Run, corpus: Path, tmp_path: Path) -> None:
    from tests.tiny_model import build_tiny_bert

    moeret("index", corpus)
    other = build_tiny_bert(tmp_path / "other", seed=1)
    done = moeret("query", "anything", "--model", other)
    assert done.code == 4
    assert "--model" in done.err


def test_a_folder_of_other_things_is_no_store(moeret: Run, corpus: Path) -> None:
    done = moeret("query", "anything", "--store", corpus)
    assert done.code == 2
    assert "no store" in done.err


def test_a_misspelt_setting_is_named(moeret: Run, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOERET_BUDGTE", "3")
    done = moeret("status")
    assert done.code == 2
    assert "did you mean 'budget'?" in done.err


def test_a_filter_over_an_unknown_field_is_answered_with_the_nearest(moeret: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"_id": "1", "text": "x y", "year": 2020}), encoding="utf8")
    moeret("index", tmp_path / "a.jsonl", "--domain", "x")
    done = moeret("query", "x", "--where", "yaer >= 2015")
    assert done.code == 2
    assert "did you mean 'year'?" in done.err


def test_a_budget_smaller_than_any_hit_says_how_much_is_needed(moeret: Run, corpus: Path) -> None:
    moeret("index", corpus)
    done = moeret("context", "document", "--budget", "5")
    assert done.code == 2
    assert "--budget" in done.err


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_a_store_that_may_not_be_made_is_refused(moeret: Run, corpus: Path) -> None:
    done = moeret("index", corpus, "--store", "/proc/moeret-store")
    assert done.code == 1
    assert "/proc/moeret-store" in done.err
    assert "Traceback" not in done.err
