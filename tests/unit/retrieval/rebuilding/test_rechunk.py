"""Cutting a store's documents anew: how they are cut changes, never what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_retrieval import Document, Moeret
from moe_retrieval.model import surgery
from moe_retrieval.retrieval.rebuilding.rechunk import ChunkSizes, joined, parts_of, recorded_sizes
from moe_retrieval.settings import Settings
from moe_retrieval.storage.catalog import DomainEntry
from moe_retrieval.types import Durability, Precision
from tests.tiny_model import WORDS, different

OLD, NEW = "semchunk/30/7/1", "semchunk/20/5/1"
LONG = 6
SHORT = 4


def text(number: int, *, words: int) -> str:
    return " ".join(f"{WORDS[(number * 7 + at * at) % len(WORDS)]}" for at in range(words)) + f" {number}."


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Long documents in files of their own, short ones in one file with those of another domain."""
    folder = tmp_path / "corpus"
    (folder / "heart").mkdir(parents=True)
    for number in range(LONG):
        (folder / "heart" / f"long{number}.txt").write_text(text(number, words=90), "utf-8")
    write_records(folder, {f"short{number}": text(number, words=6) for number in range(SHORT)})
    return folder


def write_records(folder: Path, texts: dict[str, str]) -> None:
    lines = [
        json.dumps({"_id": name, "text": said, "domain": domain})
        for name, said in texts.items()
        for domain in ("heart" if name.startswith("short") else "lung",)
    ]
    lines.append(json.dumps({"_id": "other", "text": text(1, words=50), "domain": "lung"}))
    (folder / "records.jsonl").write_text("\n".join(lines), "utf-8")


def opened(store: Path, model: Path, **settings: Any) -> Moeret:
    values = {"precision": Precision.FP32, "durability": Durability.PROCESS, **settings}
    return Moeret.open(store, settings=Settings(model=str(model), **values))


def fill(moeret: Moeret, corpus: Path) -> None:
    moeret.index(corpus / "heart", domain="heart")
    moeret.index(corpus / "records.jsonl", domain_field="domain")


@pytest.fixture
def written(tmp_path: Path, corpus: Path, tiny_model: Path) -> Moeret:
    """A store whose documents are cut into chunks of up to 30 tokens."""
    moeret = opened(tmp_path / "store", tiny_model)
    fill(moeret, corpus)
    return moeret


@pytest.fixture
def finer(written: Moeret, tmp_path: Path, tiny_model: Path) -> Moeret:
    """The same store, with settings that ask for 20 tokens."""
    return opened(tmp_path / "store", tiny_model, chunk_tokens=20)


def entries(moeret: Moeret) -> dict[str, DomainEntry]:
    live = moeret.store.catalog.latest()
    assert live is not None
    return dict(live.domains)


def rows(moeret: Moeret, domain: str = "heart") -> dict[str, tuple[object, ...]]:
    """What is stored of every chunk, but its vector."""
    columns = ("id", "content", "start", "end", "parts", "doc_hash", "title", "meta", "source")
    view = moeret.store.view(entries(moeret)[domain])
    found = [row for batch in view.batches(columns) for row in batch.to_pylist()]
    return {row["id"]: tuple(row[name] for name in columns) for row in found}


def vectors(moeret: Moeret, domain: str = "heart") -> dict[str, np.ndarray]:
    view = moeret.store.view(entries(moeret)[domain])
    names = [name for batch in view.batches(("id",)) for name in batch["id"].to_pylist()]
    return dict(zip(names, view.vectors(), strict=True))


def test_a_store_that_is_cut_anew_is_one_that_was_indexed_so(
    finer: Moeret, corpus: Path, tmp_path: Path, tiny_model: Path
) -> None:
    finer.reindex()
    fresh = opened(tmp_path / "fresh", tiny_model, chunk_tokens=20)
    fill(fresh, corpus)
    for domain in ("heart", "lung"):
        assert rows(finer, domain) == rows(fresh, domain)
        ours, theirs = vectors(finer, domain), vectors(fresh, domain)
        assert all(np.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)
    assert {entry.chunking for entry in entries(finer).values()} == {NEW}


def test_chunks_that_stay_the_same_keep_their_vectors(written: Moeret, finer: Moeret) -> None:
    before, old = rows(written), vectors(written)
    report = finer.reindex(domains=["heart"])
    after, new = rows(finer), vectors(finer)
    same = [name for name in after if name in before and before[name][1] == after[name][1]]
    assert len(same) >= SHORT
    assert all(new[name].tobytes() == old[name].tobytes() for name in same)
    assert report.encoded <= len(after) - len(same)
    assert report.chunks == len(after)


def test_the_plan_says_how_many_chunks_are_encoded_and_reused(finer: Moeret) -> None:
    reindexer = finer.reindexer()
    plans = reindexer.estimate(reindexer.plan(domains=["heart"]))
    report = finer.reindex(domains=["heart"])
    assert [(plan.encode, plan.reuse) for plan in plans] == [(report.encoded, report.chunks - report.encoded)]


def test_indexing_with_the_same_sizes_afterwards_encodes_nothing(finer: Moeret, corpus: Path) -> None:
    finer.reindex()
    assert finer.index(corpus / "heart", domain="heart").encoded == 0
    assert finer.reindexer().plan() == ()


def test_indexing_without_sizes_cuts_as_the_store_is_cut(
    finer: Moeret, written: Moeret, corpus: Path
) -> None:
    finer.reindex()
    assert written.index(corpus / "heart", domain="heart").encoded == 0


def test_without_sizes_every_domain_keeps_its_chunks(finer: Moeret, written: Moeret) -> None:
    finer.reindex(domains=["heart"])
    assert written.reindexer().plan() == ()


def test_only_the_named_domain_is_cut_anew(finer: Moeret) -> None:
    before = entries(finer)
    finer.reindex(domains=["heart"])
    assert entries(finer)["lung"] == before["lung"]


def test_other_rules_of_cutting_are_a_plan_without_any_setting(
    written: Moeret, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("corpus.chunking", "retrieval.rebuilding.rechunk"):
        monkeypatch.setattr(f"moe_retrieval.{module}.RULES", 2)
    plans = written.reindexer().plan()
    assert {plan.rechunk for plan in plans} == {"semchunk/30/7/2"}
    assert written.reindex().encoded == 0  # these rules cut as the old ones did: every vector is there
    assert written.reindexer().plan() == ()


# --- documents that are not what was indexed


def test_a_changed_document_keeps_its_old_chunks_and_is_named(finer: Moeret, corpus: Path) -> None:
    changed = corpus / "heart" / "long2.txt"
    changed.write_text("quite another text", "utf-8")
    before, old = rows(finer), vectors(finer)
    report = finer.reindex(domains=["heart"])
    kept = {name: row for name, row in rows(finer).items() if row[-1] == str(changed)}
    assert kept == {name: row for name, row in before.items() if row[-1] == str(changed)}
    assert all(vectors(finer)[name].tobytes() == old[name].tobytes() for name in kept)
    assert [(one.source, one.reason) for one in report.rejections] == [
        (str(changed), "1 document keeps its old chunks: no longer what was indexed")
    ]
    assert (report.unchanged, report.documents) == (1, LONG + SHORT)
    assert entries(finer)["heart"].chunking == f"{OLD} + {NEW}"


def test_a_source_that_is_gone_is_named_with_the_number_of_its_documents(finer: Moeret, corpus: Path) -> None:
    (corpus / "records.jsonl").unlink()
    report = finer.reindex(domains=["heart"])
    assert [one.reason for one in report.rejections] == [
        f"{SHORT} documents keep their old chunks: the file is gone"
    ]


def test_a_document_that_left_its_file_keeps_its_chunks(finer: Moeret, corpus: Path) -> None:
    write_records(corpus, {f"short{number}": text(number, words=6) for number in range(SHORT - 1)})
    report = finer.reindex(domains=["heart"])
    assert [one.reason for one in report.rejections] == [
        "1 document keeps its old chunks: no longer in the file"
    ]


def test_documents_that_came_from_no_file_keep_their_chunks(written: Moeret, finer: Moeret) -> None:
    written.index_documents([Document("a", text(3, words=80))], domain="skin")
    before = entries(written)["skin"]
    report = finer.reindex(domains=["skin"])
    assert [one.reason for one in report.rejections] == [
        "1 document keeps its old chunks: no file to read again"
    ]
    assert entries(finer)["skin"] == before


def test_where_no_document_can_be_cut_anew_nothing_is_published(finer: Moeret, corpus: Path) -> None:
    for file in (corpus / "heart").iterdir():
        file.unlink()
    (corpus / "records.jsonl").unlink()
    before = finer.store.catalog.latest()
    report = finer.reindex()
    assert finer.store.catalog.latest() == before
    assert (report.encoded, report.domains, len(report.rejections)) == (0, {}, LONG + 2)


def test_a_document_whose_file_came_back_is_cut_anew_by_the_next_run(finer: Moeret, corpus: Path) -> None:
    file = corpus / "heart" / "long0.txt"
    content = file.read_bytes()
    file.write_text("something else", "utf-8")
    finer.reindex()
    file.write_bytes(content)
    report = finer.reindex()
    assert report.rejections == ()
    assert list(report.domains) == ["heart"]
    assert entries(finer)["heart"].chunking == NEW


# --- together with another expert, and after a kill


def test_another_expert_and_other_chunks_are_one_run(
    written: Moeret, finer: Moeret, corpus: Path, tmp_path: Path, tiny_model: Path
) -> None:
    model = different(surgery.upcycle(tiny_model), "heart")
    pack = tmp_path / "packs" / surgery.export_expert(model, "heart", tmp_path / "packs")
    written.register_expert("heart", pack)
    (corpus / "heart" / "long1.txt").unlink()
    report = finer.reindex(domains=["heart"])
    entry = entries(finer)["heart"]
    view = finer.store.view(entry)
    texts = [content for batch in view.batches(("content",)) for content in batch["content"].to_pylist()]
    assert (entry.expert, report.encoded) == (pack.name, entry.rows)
    fresh = finer.encoder().encode_document(texts, domain="heart")
    np.testing.assert_allclose(view.vectors(), fresh, atol=1e-5)


def test_a_killed_run_goes_on_without_encoding_what_it_wrote(finer: Moeret) -> None:
    whole = finer.reindexer().estimate(finer.reindexer().plan(domains=["heart"]))[0].encode
    written: list[int] = []

    def die(_domain: str, count: int) -> None:
        written.append(count)
        if len(written) == 3:
            raise KeyboardInterrupt

    reindexer = finer.reindexer()
    reindexer.window = 8
    with pytest.raises(KeyboardInterrupt):
        reindexer.run(domains=["heart"], progress=die)
    before = entries(finer)
    report = finer.reindex(domains=["heart"])
    assert report.encoded < whole
    assert report.chunks - report.encoded >= sum(written)
    assert entries(finer)["heart"].table != before["heart"].table
    assert len(rows(finer)) == report.chunks


# --- how a table of several chunkers is recorded


def test_a_store_whose_domains_are_cut_alike_names_their_sizes(written: Moeret, finer: Moeret) -> None:
    assert recorded_sizes(None) == ChunkSizes()
    assert recorded_sizes(written.store.catalog.latest()) == ChunkSizes(30, 7)
    finer.reindex(domains=["heart"])
    assert recorded_sizes(written.store.catalog.latest()) == ChunkSizes()


@pytest.mark.parametrize(
    ("chunkings", "together"),
    [
        (("", "b"), "b"),
        (("a", "b"), "a + b"),
        (("a + b", "b"), "a + b"),
        (("a + b", "a"), "b + a"),
        (("a + b", "c"), "a + b + c"),
    ],
)
def test_the_newest_chunker_of_a_table_is_named_last(chunkings: tuple[str, ...], together: str) -> None:
    assert joined(*chunkings) == together
    assert parts_of(together)[-1] == parts_of(chunkings[-1])[-1]
