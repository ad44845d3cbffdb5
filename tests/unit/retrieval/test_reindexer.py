"""Reindexing: only what is stale is embedded again, beside the live tables, and published all at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moe_retrieval import Document, Encoder, Indexer, Moeret, Retriever, Store
from moe_retrieval.errors import (
    ModelError,
    StaleDomainError,
    StoreBusyError,
    StoreError,
    UnknownDomainError,
    UsageError,
)
from moe_retrieval.retrieval.reindexer import Reindexer
from moe_retrieval.settings import Settings
from moe_retrieval.storage.index import IndexInfo
from moe_retrieval.types import Precision
from tests.tiny_model import build_tiny_bert, different

HEART = [Document(f"h{n}", f"heart attack artery blood pressure {n}") for n in range(12)]
SKIN = [Document(f"s{n}", f"mole melanoma skin sun lesion {n}") for n in range(8)]


@pytest.fixture
def filled(store: Store, indexer: Indexer) -> Store:
    indexer.index(HEART, domain="cvd")
    indexer.index(SKIN, domain="skin")
    return store


@pytest.fixture
def shorter(tiny_model: Path) -> Encoder:
    """The same model with a setting that decides vectors changed."""
    return Encoder.load(tiny_model, max_length=24)


@pytest.fixture
def expert(tiny_model: Path, tmp_path: Path) -> Path:
    """An exported expert for the tiny model, of other weights than `general`."""
    from moe_retrieval.model.surgery import export_expert, upcycle

    model = different(upcycle(tiny_model), "cvd")
    return tmp_path / "experts" / export_expert(model, "cvd", tmp_path / "experts")


def entries(store: Store) -> dict[str, object]:
    live = store.catalog.latest()
    assert live is not None
    return dict(live.domains)


def test_nothing_is_stale_under_the_same_encoder(filled: Store, encoder: Encoder) -> None:
    assert Reindexer(filled, encoder=encoder).plan() == ()


def test_a_changed_setting_makes_every_domain_stale(filled: Store, shorter: Encoder) -> None:
    plans = Reindexer(filled, encoder=shorter).plan()
    assert [(plan.domain, plan.rows, plan.stale) for plan in plans] == [("cvd", 12, True), ("skin", 8, True)]


def test_reindexed_domains_answer_under_the_new_encoder(filled: Store, shorter: Encoder) -> None:
    reindexer = Reindexer(filled, encoder=shorter)
    report = reindexer.run()
    assert report.encoded == 20
    hits = Retriever(filled, encoder=shorter).query("melanoma", domains=["skin"]).hits
    assert {hit.domain for hit in hits} == {"skin"}


def test_force_embeds_a_fresh_domain_again_and_changes_no_vector(filled: Store, encoder: Encoder) -> None:
    before = entries(filled)
    reindexer = Reindexer(filled, encoder=encoder)
    reindexer.run(domains=["cvd"], force=True)
    after = entries(filled)
    assert after["cvd"].table != before["cvd"].table
    assert after["cvd"].digest == before["cvd"].digest
    assert after["skin"] == before["skin"]


def test_a_killed_reindex_goes_on_where_it_was(filled: Store, shorter: Encoder) -> None:
    seen: list[int] = []

    def die(_domain: str, count: int) -> None:
        seen.append(count)
        if len(seen) == 2:
            raise KeyboardInterrupt

    reindexer = Reindexer(filled, encoder=shorter, window=5)
    before = entries(filled)
    with pytest.raises(KeyboardInterrupt):
        reindexer.run(progress=die)
    assert entries(filled) == before
    report = reindexer.run()
    assert report.encoded == 20 - sum(seen)


def test_what_changed_between_a_killed_reindex_and_the_next_is_taken_over(
    filled: Store, shorter: Encoder, indexer: Indexer
) -> None:
    def die(_domain: str, _count: int) -> None:
        raise KeyboardInterrupt

    reindexer = Reindexer(filled, encoder=shorter, window=5)
    with pytest.raises(KeyboardInterrupt):
        reindexer.run(progress=die)
    indexer.index([Document("h0", "another text altogether")], domain="cvd")
    reindexer.run()
    hits = Retriever(filled, encoder=shorter).query("another text altogether", domains=["cvd"], k=20).hits
    assert sorted(hit.doc_id for hit in hits) == sorted(document.id for document in HEART)
    assert "another text altogether" in {hit.text for hit in hits}


def test_a_registered_expert_makes_only_its_domain_stale(
    filled: Store, tiny_model: Path, expert: Path
) -> None:
    moeret = Moeret.open(filled.path, settings=Settings(model=str(tiny_model)))
    moeret.register_expert("cvd", expert)
    assert [plan.domain for plan in moeret.reindexer().plan()] == ["cvd"]


def test_queries_use_the_live_expert_until_the_reindex(filled: Store, tiny_model: Path, expert: Path) -> None:
    moeret = Moeret.open(filled.path, settings=Settings(model=str(tiny_model)))
    before = moeret.query("artery", domains=["cvd"]).hits
    moeret.register_expert("cvd", expert)
    assert moeret.query("artery", domains=["cvd"]).hits == before


def test_a_reindexed_expert_changes_its_vectors_and_no_others(
    filled: Store, tiny_model: Path, expert: Path
) -> None:
    settings = Settings(model=str(tiny_model), precision=Precision.FP32)
    moeret = Moeret.open(filled.path, settings=settings)
    before = entries(filled)
    moeret.register_expert("cvd", expert)
    moeret.reindex()
    after = entries(filled)
    assert after["cvd"].expert == expert.name
    assert after["cvd"].digest != before["cvd"].digest
    assert after["skin"] == before["skin"]
    view = filled.view(after["cvd"])
    contents = [text for batch in view.batches(("content",)) for text in batch["content"].to_pylist()]
    encoder = Encoder.load(tiny_model, experts={"cvd": expert}, precision=Precision.FP32)
    fresh = encoder.encode_document(contents, domain="cvd")
    np.testing.assert_allclose(view.vectors(), fresh, atol=1e-5)


def test_domains_of_two_spaces_are_answered_together(filled: Store, tiny_model: Path, expert: Path) -> None:
    moeret = Moeret.open(filled.path, settings=Settings(model=str(tiny_model)))
    moeret.register_expert("cvd", expert)
    moeret.reindex()
    hits = moeret.query("heart skin artery mole", domains=["cvd", "skin"], mode="vector", k=20).hits
    assert {hit.domain for hit in hits} == {"cvd", "skin"}
    assert len(hits) == 20


def test_a_changed_setting_is_refused_until_the_reindex(filled: Store, tiny_model: Path) -> None:
    changed = Moeret.open(filled.path, settings=Settings(model=str(tiny_model), query_prompt="query: "))
    with pytest.raises(StaleDomainError, match="moeret reindex"):
        changed.query("artery")
    changed.reindex()
    assert changed.query("artery").hits


def test_another_model_must_reindex_all_domains(filled: Store, tmp_path: Path) -> None:
    other = Encoder.load(build_tiny_bert(tmp_path / "other", seed=3))
    with pytest.raises(UsageError, match="without --domain"):
        Reindexer(filled, encoder=other).plan(domains=["cvd"])


def test_an_unknown_domain_is_refused(filled: Store, encoder: Encoder) -> None:
    with pytest.raises(UnknownDomainError, match="did you mean 'skin'"):
        Reindexer(filled, encoder=encoder).plan(domains=["skinn"])


def test_the_models_other_spelling_keeps_its_experts(
    filled: Store, tiny_model: Path, expert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moeret = Moeret.open(filled.path, settings=Settings(model=str(tiny_model)))
    moeret.register_expert("cvd", expert)
    moeret.reindex()
    monkeypatch.chdir(tiny_model.parent)
    assert Moeret.open(filled.path, settings=Settings(model=f"./{tiny_model.name}/")).reindexer().plan() == ()


def test_another_model_comes_with_its_own_settings(filled: Store, tmp_path: Path) -> None:
    longer = build_tiny_bert(tmp_path / "other", seed=3, max_length=48)
    moved = Moeret.open(filled.path, settings=Settings(model=str(longer)))
    moved.reindex()
    live = filled.catalog.latest()
    assert live is not None
    assert live.model["max_length"] == "48"
    assert moved.query("artery").hits


def test_a_changed_setting_must_reindex_all_domains(filled: Store, shorter: Encoder) -> None:
    with pytest.raises(UsageError, match="without --domain"):
        Reindexer(filled, encoder=shorter).plan(domains=["cvd"])


def test_an_encoder_of_other_vectors_is_refused_for_queries(filled: Store, tmp_path: Path) -> None:
    other = Encoder.load(build_tiny_bert(tmp_path / "other", seed=3))
    with pytest.raises(StaleDomainError):
        Retriever(filled, encoder=other).query("artery")


def test_a_folder_that_is_no_expert_is_not_registered(
    filled: Store, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad").mkdir()
    moeret = Moeret.open(filled.path, settings=Settings(model=str(tiny_model)))
    with pytest.raises(ModelError):
        moeret.register_expert("cvd", tmp_path / "bad")
    assert moeret.reindexer().plan() == ()


def test_a_handle_without_a_store_has_the_encoder_of_its_settings(tiny_model: Path, tmp_path: Path) -> None:
    moeret = Moeret.open(tmp_path / "none", settings=Settings(model=str(tiny_model)))
    assert moeret.encoder().dim == 32
    assert not (tmp_path / "none").exists()


# --- what is reused


def test_vectors_that_an_older_generation_still_has_are_not_computed_again(
    filled: Store, encoder: Encoder, shorter: Encoder
) -> None:
    before = entries(filled)
    Reindexer(filled, encoder=shorter).run()
    back = Reindexer(filled, encoder=encoder)
    assert [(plan.encode, plan.reuse) for plan in back.estimate(back.plan())] == [(0, 12), (0, 8)]
    report = back.run()
    after = entries(filled)
    assert (report.encoded, report.chunks) == (0, 20)
    assert {name: entry.digest for name, entry in after.items()} == {
        name: entry.digest for name, entry in before.items()
    }


def test_the_estimate_counts_what_a_killed_run_left(filled: Store, shorter: Encoder) -> None:
    seen: list[int] = []

    def die(_domain: str, count: int) -> None:
        seen.append(count)
        raise KeyboardInterrupt

    reindexer = Reindexer(filled, encoder=shorter, window=5)
    with pytest.raises(KeyboardInterrupt):
        reindexer.run(domains=["cvd", "skin"], progress=die)
    cvd, skin = reindexer.estimate(reindexer.plan())
    assert (cvd.encode, cvd.reuse) == (12 - sum(seen), sum(seen))
    assert (skin.encode, skin.reuse) == (8, 0)
    assert cvd.seconds is not None
    assert cvd.bytes is not None
    assert cvd.bytes > 12 * 4 * 32


def test_the_router_stays_as_it_is_while_the_texts_do(filled: Store, tiny_model: Path, expert: Path) -> None:
    moeret = Moeret.open(filled.path, settings=Settings(model=str(tiny_model)))
    before = filled.catalog.latest()
    moeret.register_expert("cvd", expert)
    moeret.reindex()
    after = filled.catalog.latest()
    assert before is not None
    assert after is not None
    assert before.router == after.router != ""


def test_the_router_is_fitted_anew_to_another_space(filled: Store, shorter: Encoder) -> None:
    before = filled.catalog.latest()
    Reindexer(filled, encoder=shorter).run()
    after = filled.catalog.latest()
    assert before is not None
    assert after is not None
    assert before.router != after.router


def test_progress_begins_with_what_a_killed_run_wrote(filled: Store, shorter: Encoder) -> None:
    written: list[int] = []

    def die(_domain: str, count: int) -> None:
        written.append(count)
        raise KeyboardInterrupt

    reindexer = Reindexer(filled, encoder=shorter, window=5)
    with pytest.raises(KeyboardInterrupt):
        reindexer.run(progress=die)
    seen: list[int] = []
    reindexer.run(progress=lambda _domain, count: seen.append(count))
    assert seen[0] == written[0]
    assert sum(seen) == 20


# --- what is checked before it is published


def test_a_table_that_lost_a_document_is_not_published_and_the_next_run_begins_anew(
    filled: Store, shorter: Encoder
) -> None:
    before = entries(filled)

    def lose(domain: str, _count: int) -> None:
        table = filled.unpublished(domain, fingerprint=shorter.fingerprint(domain))
        assert table is not None
        table.delete_documents(table.documents().keys[:1])

    reindexer = Reindexer(filled, encoder=shorter)
    with pytest.raises(StoreError, match=r"d_cvd\.g2 holds 11 documents where 12 were to be written"):
        reindexer.run(progress=lose)
    assert entries(filled) == before
    assert filled.unpublished("cvd") is None
    assert reindexer.run().encoded == 20


def test_vectors_of_other_texts_are_not_published(
    filled: Store, shorter: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = entries(filled)
    encode, calls = shorter.encode_document, []

    def mixed_up(texts: list[str], *, domain: str) -> np.ndarray:
        calls.append(len(texts))
        vectors = encode(texts, domain=domain)
        return np.roll(vectors, 1, axis=0) if len(calls) == 1 else vectors

    monkeypatch.setattr(shorter, "encode_document", mixed_up)
    with pytest.raises(StoreError, match="holds vectors that are not those of their texts"):
        Reindexer(filled, encoder=shorter).run()
    assert entries(filled) == before


def test_an_index_that_finds_less_than_is_wanted_is_told(
    filled: Store, shorter: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = IndexInfo(engine="faiss", factory="IVF64,SQ8", rows=12, recall_at_10=0.91)
    monkeypatch.setattr("moe_retrieval.retrieval.reindexer.index_info", lambda *_: low)
    heard: list[str] = []
    Reindexer(filled, encoder=shorter, notify=heard.append).run()
    assert heard[0] == "the new index of cvd has a recall@10 of 0.910, below 0.98 (setting `recall`)"


def test_a_reindex_is_noted_in_the_generation_it_makes(filled: Store, shorter: Encoder) -> None:
    Reindexer(filled, encoder=shorter).run()
    live = filled.catalog.latest()
    assert live is not None
    assert live.note == "reindex cvd, skin"


def test_while_another_writer_is_at_work_a_plan_can_be_made_but_not_carried_out(
    filled: Store, shorter: Encoder
) -> None:
    reindexer = Reindexer(filled, encoder=shorter)
    with filled.lease():
        assert [plan.encode for plan in reindexer.estimate(reindexer.plan())] == [12, 8]
        with pytest.raises(StoreBusyError):
            reindexer.run()
