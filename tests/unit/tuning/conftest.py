"""A store that full text answers well and random vectors badly, and the folder that says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moe_retrieval import Document, Encoder, Indexer, Retriever, Store

DOMAINS = ("cvd", "skin")
COUNT = 80


@pytest.fixture(scope="session")
def encoder(tiny_model: Path) -> Encoder:
    return Encoder.load(tiny_model)


@pytest.fixture(scope="session")
def code() -> list[str]:
    """A word for each document that no other document has."""
    return [f"zq{number}x" for number in range(COUNT)]


@pytest.fixture
def store(tmp_path: Path, encoder: Encoder, code: list[str]) -> Store:
    store = Store.open(tmp_path / "store", create=True)
    indexer = Indexer(store, encoder=encoder)
    for side, domain in enumerate(DOMAINS):
        words = ("heart blood pressure", "skin sun mole")[side]
        documents = [
            Document(f"d{at}", f"{words} {name} drug dose trial {at % 7}")
            for at, name in enumerate(code)
            if at % 2 == side
        ]
        indexer.index(documents, domain=domain)
    return store


@pytest.fixture
def retriever(store: Store, encoder: Encoder) -> Retriever:
    return Retriever(store, encoder=encoder)


@pytest.fixture
def folder(tmp_path: Path, code: list[str]) -> Path:
    """Queries of one word each, which one document has, in BEIR layout without a corpus."""
    folder = tmp_path / "judged"
    write_folder(folder, [f"trial of {name} in patient pain" for name in code])
    return folder


def write_folder(folder: Path, texts: list[str], *, domains: bool = True) -> None:
    """A query for each text, whose one relevant document has its number."""
    folder.mkdir(exist_ok=True)
    records = [
        {"_id": f"q{at}", "text": text} | ({"domain": DOMAINS[at % 2]} if domains else {})
        for at, text in enumerate(texts)
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    judged = "".join(f"q{at}\td{at}\t1\n" for at in range(len(texts)))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
