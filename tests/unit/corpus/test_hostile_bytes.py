"""Whatever the bytes, a reader gives documents and reasons, and the same ones each time."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from test_office_formats import pdf, word
from test_text_formats import HTML, MARKDOWN
from test_xml_formats import ARTICLE, DOCTYPE, pubmed, record

from moe_retrieval.corpus.readers import FORMATS, read_corpus
from moe_retrieval.types import Document, Rejected, Skipped

ROUNDS = 25


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = pa.BufferOutputStream()
    pq.write_table(
        pa.table({"text": ["one", "two"] * 50, "year": list(range(100)), "tags": [["a"]] * 100}), out
    )
    return bytes(out.getvalue())


SEEDS: dict[str, list[bytes]] = {
    ".txt": [b"A title\n\nSome text, na\xc3\xafve."],
    ".md": [MARKDOWN.encode()],
    ".html": [HTML.encode()],
    ".json": [json.dumps([{"id": 1, "text": "t", "m": {"a": [1]}}] * 5).encode()],
    ".jsonl": [b'{"_id": "1", "text": "t", "tags": ["a"]}\n' * 5],
    ".csv": [b'id,text,year\n1,"a ""b""",2020\n2,c,x\n'],
    ".parquet": [parquet()],
    ".xml": [(DOCTYPE + ARTICLE).encode(), pubmed(record(1), record(2)).encode()],
    ".pdf": [pdf("First page", "Second page", title="T")],
    ".docx": [word()],
}


def mutated(seed: bytes, dice: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(dice.choice([1, 3, 20])):
        at, kind = dice.randrange(len(data)), dice.randrange(4)
        if kind == 0:
            data[at] = dice.randrange(256)
        elif kind == 1:
            del data[at : at + dice.choice([1, 30])]
        elif kind == 2:
            data[at:at] = dice.choice(
                [b"\xff\xfe", b"\0", b'"', b"<", b"[" * 50, b"\\ud800", b"&x;", bytes(9)]
            )
        else:
            data[at:at] = data[: dice.randrange(200)]
        data = data or bytearray(b"x")
    return bytes(data)


def test_every_format_has_a_seed() -> None:
    families = {".text": ".txt", ".markdown": ".md", ".htm": ".html", ".xhtml": ".html", ".ndjson": ".jsonl"}
    families |= {".tsv": ".csv", ".nxml": ".xml"}
    assert {families.get(extension, extension) for extension in FORMATS} == set(SEEDS)


@pytest.mark.parametrize("extension", SEEDS)
def test_damaged_files_never_raise_and_read_the_same_twice(extension: str, tmp_path: Path) -> None:
    dice = random.Random(extension)
    for place in range(ROUNDS):
        seed = dice.choice(SEEDS[extension])
        data = dice.randbytes(dice.randrange(1, 3_000)) if place % 10 == 9 else mutated(seed, dice)
        path = tmp_path / f"a{extension}"
        path.write_bytes(data)
        first = list(read_corpus([str(path)]))
        assert first
        assert all(isinstance(item, Document | Rejected | Skipped) for item in first)
        assert list(read_corpus([str(path)])) == first
        for item in first:
            _check(item)


def _check(item: Document | Rejected | Skipped) -> None:
    if isinstance(item, Document):
        json.dumps(
            [item.id, item.text, item.title, dict(item.metadata)], ensure_ascii=False, allow_nan=False
        ).encode()
        assert item.text.strip()
        assert all(0 <= part.start < part.end <= len(item.text) for part in item.sections)
    else:
        assert item.reason.encode()
        assert "\n" not in item.reason
