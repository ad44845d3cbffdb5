"""Candidates: a domain without a table begins with its own expert, one with a table waits for the reindex."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from moe_retrieval import Document, Encoder, Indexer, Moeret, Store
from moe_retrieval.errors import (
    ChecksumError,
    ModelError,
    ModelMismatchError,
    NothingFoundError,
    UnknownDomainError,
    UsageError,
)
from moe_retrieval.model import surgery
from moe_retrieval.retrieval.candidates import newcomers
from moe_retrieval.retrieval.indexer import IndexOptions
from moe_retrieval.retrieval.pinned import EncoderChoice, writing_encoder
from moe_retrieval.settings import Settings
from moe_retrieval.storage.catalog import DomainEntry
from moe_retrieval.types import Precision
from tests.tiny_model import build_tiny_bert, different

FIVE = ("cvd", "copd", "immune", "malaria", "skin")
SIXTH = [Document(f"j{at}", f"joint pain fever light {at}") for at in range(60)]


@pytest.fixture(scope="module")
def packs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An expert for each of the five domains and for `joint`, all of different weights."""
    folder = tmp_path_factory.mktemp("packs")
    model = different(surgery.upcycle(tiny_model), *FIVE, "joint")
    return {name: folder / surgery.export_expert(model, name, folder) for name in (*FIVE, "joint")}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An expert of another model."""
    folder = tmp_path_factory.mktemp("foreign")
    model = different(surgery.upcycle(build_tiny_bert(folder / "other", seed=3)), "joint")
    return folder / surgery.export_expert(model, "joint", folder)


@pytest.fixture
def moeret(tiny_model: Path, tmp_path: Path) -> Moeret:
    """A handle on a place where no store is yet."""
    settings = Settings(model=str(tiny_model), precision=Precision.FP32, durability="process")
    return Moeret.open(tmp_path / "store", settings=settings)


@pytest.fixture
def five(moeret: Moeret) -> Moeret:
    """A store of five domains, of which `cvd` has an expert of its own."""
    documents = [
        Document(f"{domain}{at}", f"{domain} patient risk {at}", domain=domain)
        for domain in FIVE
        for at in range(6)
    ]
    moeret.index_documents(documents)
    return moeret


def entries(moeret: Moeret) -> dict[str, DomainEntry]:
    live = moeret.store.catalog.latest()
    assert live is not None
    return dict(live.domains)


def vectors(moeret: Moeret, domain: str) -> np.ndarray:
    return moeret.store.view(entries(moeret)[domain]).vectors()


def texts(moeret: Moeret, domain: str) -> list[str]:
    batches = moeret.store.view(entries(moeret)[domain]).batches(["content"])
    return [text for batch in batches for text in batch["content"].to_pylist()]


# --- a domain that has no table yet


def test_a_new_domain_is_indexed_with_its_expert_and_leaves_the_others_as_they_were(
    five: Moeret, packs: dict[str, Path]
) -> None:
    five.register_expert("cvd", packs["cvd"])
    five.reindex()
    before, stored = entries(five), {domain: vectors(five, domain).tobytes() for domain in FIVE}
    five.register_expert("joint", packs["joint"])
    report = five.index_documents(SIXTH, domain="joint")
    after = entries(five)
    assert report.encoded == len(SIXTH)
    assert {domain: after[domain] for domain in FIVE} == before
    assert {domain: vectors(five, domain).tobytes() for domain in FIVE} == stored
    assert after["joint"].expert == packs["joint"].name


def test_the_new_table_holds_the_vectors_of_its_expert(
    five: Moeret, tiny_model: Path, packs: dict[str, Path]
) -> None:
    five.register_expert("joint", packs["joint"])
    five.index_documents(SIXTH, domain="joint")
    encoder = Encoder.load(tiny_model, experts={"joint": packs["joint"]}, precision=Precision.FP32)
    fresh = encoder.encode_document(texts(five, "joint"), domain="joint")
    np.testing.assert_allclose(vectors(five, "joint"), fresh, atol=1e-5)
    assert np.abs(fresh - encoder.encode_document(texts(five, "joint"))).max() > 0.01
    assert entries(five)["joint"].fingerprint == encoder.fingerprint("joint")


def test_all_six_domains_are_answered_afterwards(five: Moeret, packs: dict[str, Path]) -> None:
    five.register_expert("joint", packs["joint"])
    five.index_documents(SIXTH, domain="joint")
    for domain in (*FIVE, "joint"):
        assert {hit.domain for hit in five.query("patient risk joint pain", domains=[domain]).hits} == {
            domain
        }
    both = five.query("joint patient", domains=["cvd", "joint"], mode="vector", k=50).hits
    assert {hit.domain for hit in both} == {"cvd", "joint"}
    assert five.query("joint pain fever").hits


def test_nothing_waits_for_a_reindex_after_the_first_index(five: Moeret, packs: dict[str, Path]) -> None:
    five.register_expert("joint", packs["joint"])
    five.index_documents(SIXTH, domain="joint")
    assert five.reindexer().plan() == ()
    assert {one.candidate for one in five.status().domains} == {""}
    assert five.index_documents(SIXTH, domain="joint").encoded == 0


def test_a_candidate_of_a_domain_with_a_table_waits_for_the_reindex(
    five: Moeret, packs: dict[str, Path]
) -> None:
    five.register_expert("cvd", packs["cvd"])
    five.register_expert("joint", packs["joint"])
    five.index_documents([*SIXTH[:1], Document("new", "heart attack", domain="cvd")], domain="joint")
    found = entries(five)
    assert (found["cvd"].expert, found["joint"].expert) == ("general", packs["joint"].name)
    five.reindex()
    assert entries(five)["cvd"].expert == packs["cvd"].name


def test_a_candidate_may_come_before_the_store(moeret: Moeret, packs: dict[str, Path]) -> None:
    moeret.register_expert("joint", packs["joint"])
    with pytest.raises(NothingFoundError, match="holds no documents"):
        moeret.query("joint")
    moeret.index_documents(SIXTH, domain="joint")
    assert entries(moeret)["joint"].expert == packs["joint"].name


def killed_after(count: int, moeret: Moeret, *, publish_seconds: float = 30.0) -> None:
    """Index so many documents of the sixth domain, and break off."""

    def breaks_off() -> Iterator[Document]:
        yield from SIXTH[:count]
        raise RuntimeError("killed")

    store, settings = Store.open(moeret.settings.store, create=True, durable=False), moeret.settings
    choice = EncoderChoice(model=settings.model, precision=settings.precision, engine=settings.engine)
    encoder = writing_encoder(store, store.catalog.latest(), choice, notify=lambda _message: None)
    options = IndexOptions(window=8, publish_seconds=publish_seconds)
    with pytest.raises(RuntimeError, match="killed"):
        Indexer(store, encoder=encoder, options=options).index(breaks_off(), domain="joint")


@pytest.mark.parametrize(("publish_seconds", "generations"), [(30.0, 0), (1e-9, 16)])
def test_a_killed_first_index_goes_on_with_the_expert(
    moeret: Moeret, packs: dict[str, Path], publish_seconds: float, generations: int
) -> None:
    moeret.register_expert("joint", packs["joint"])
    killed_after(16, moeret, publish_seconds=publish_seconds)
    assert len(moeret.store.catalog.numbers()) == generations
    assert moeret.index_documents(SIXTH, domain="joint").encoded == len(SIXTH) - 16
    assert sorted(texts(moeret, "joint")) == sorted(document.text for document in SIXTH)
    assert entries(moeret)["joint"].expert == packs["joint"].name


def test_rows_that_a_killed_run_encoded_without_the_expert_are_not_gone_on_with(
    moeret: Moeret, packs: dict[str, Path]
) -> None:
    killed_after(16, moeret)
    moeret.register_expert("joint", packs["joint"])
    assert moeret.index_documents(SIXTH, domain="joint").encoded == len(SIXTH)


# --- forgetting


def test_a_removed_domain_begins_anew_without_its_expert(five: Moeret, packs: dict[str, Path]) -> None:
    five.register_expert("joint", packs["joint"])
    five.index_documents(SIXTH, domain="joint")
    assert five.remove_domain("joint") == len(SIXTH)
    five.index_documents(SIXTH, domain="joint")
    assert entries(five)["joint"].expert == "general"


def test_a_candidate_without_a_table_can_be_taken_back(five: Moeret, packs: dict[str, Path]) -> None:
    five.register_expert("joint", packs["joint"])
    before = five.store.catalog.latest()
    assert five.remove_domain("joint") == 0
    assert newcomers(five.store, before) == {}
    assert five.store.catalog.latest() == before
    with pytest.raises(UnknownDomainError):
        five.remove_domain("joint")


# --- what is refused


def test_an_expert_of_another_model_is_refused_by_name_and_leaves_no_store(
    moeret: Moeret, foreign: Path
) -> None:
    with pytest.raises(ModelMismatchError, match=r"'joint' .* was trained on .*other.* but the model is"):
        moeret.register_expert("joint", foreign)
    assert not moeret.settings.store.exists()


@pytest.mark.parametrize("name", ["general", "", "Skin Cancer", "../joint"])
def test_a_name_that_cannot_have_an_expert_is_refused(
    moeret: Moeret, packs: dict[str, Path], name: str
) -> None:
    with pytest.raises(UsageError, match="cannot name a domain with an expert of its own"):
        moeret.register_expert(name, packs["joint"])


def test_a_model_with_a_learned_gate_takes_no_candidates(
    tiny_model: Path, tmp_path: Path, packs: dict[str, Path]
) -> None:
    from moe_retrieval.model import extend

    model = different(surgery.upcycle(tiny_model), "one")
    extend.set_routing(model, "token", top_k=1, first_token=None)
    surgery.save(model, tmp_path / "gated", like=tiny_model)
    gated = Moeret.open(tmp_path / "store", settings=Settings(model=str(tmp_path / "gated")))
    with pytest.raises(UsageError, match="learned gate"):
        gated.register_expert("joint", packs["joint"])


def test_a_candidate_that_an_empty_store_cannot_use_is_not_passed_over(
    moeret: Moeret, packs: dict[str, Path], tmp_path: Path
) -> None:
    moeret.register_expert("joint", packs["joint"])
    other = str(build_tiny_bert(tmp_path / "other", seed=3))
    with pytest.raises(ModelMismatchError, match="was trained on"):
        Moeret.open(moeret.store.path, settings=Settings(model=other)).index_documents(SIXTH, domain="joint")


def test_candidates_left_behind_by_a_new_model_are_told_and_stop_nothing(
    five: Moeret, packs: dict[str, Path], tmp_path: Path
) -> None:
    five.register_expert("cvd", packs["cvd"])
    five.register_expert("joint", packs["joint"])
    heard: list[str] = []
    other = str(build_tiny_bert(tmp_path / "other", seed=3))
    moved = Moeret.open(five.store.path, settings=Settings(model=other), notify=heard.append)
    moved.reindex()
    assert heard == []
    moved.index_documents(SIXTH, domain="joint")
    assert moved.reindexer().plan() == ()
    assert [message[:45] for message in heard] == [
        "the candidate of domain joint is not used: ex",
        "the candidate of domain cvd is not used: expe",
        "the candidate of domain joint is not used: ex",
    ]
    assert entries(moved)["joint"].expert == "general"


def test_a_damaged_candidate_is_named(five: Moeret, packs: dict[str, Path]) -> None:
    five.register_expert("joint", packs["joint"])
    weights = five.store.experts_dir / packs["joint"].name / "expert.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ChecksumError, match=packs["joint"].name[:12]):
        five.index_documents(SIXTH, domain="joint")


def test_half_written_notes_are_no_candidates(five: Moeret, packs: dict[str, Path]) -> None:
    five.register_expert("joint", packs["joint"])
    notes = five.store.experts_dir / "candidates"
    (notes / ".joint.123.abcd.tmp").write_bytes(b"")
    assert [*newcomers(five.store, five.store.catalog.latest())] == ["joint"]


# --- experts in the model's own folder


@pytest.fixture
def inside(tiny_model: Path, tmp_path: Path) -> Moeret:
    """A store that was written with a model which has an expert for `cvd` in its folder."""
    model = different(surgery.upcycle(tiny_model), "cvd")
    surgery.assign(model, "cvd", "cvd")
    surgery.save(model, tmp_path / "joint", like=tiny_model)
    moeret = Moeret.open(tmp_path / "store", settings=Settings(model=str(tmp_path / "joint")))
    moeret.index_documents([Document("a", "heart attack")], domain="cvd")
    return moeret


def test_a_store_of_a_model_with_experts_inside_is_opened_again(inside: Moeret) -> None:
    assert entries(inside)["cvd"].expert != "general"
    assert inside.query("heart").hits[0].doc_id == "a"
    assert inside.index_documents([Document("a", "heart attack")], domain="cvd").encoded == 0


def test_a_pinned_expert_that_is_gone_is_named(five: Moeret, packs: dict[str, Path]) -> None:
    five.register_expert("cvd", packs["cvd"])
    five.reindex()
    home = five.store.experts_dir / packs["cvd"].name
    home.rename(home.with_name("elsewhere"))
    with pytest.raises(ModelError, match=f"expert {packs['cvd'].name[:12]} of domain 'cvd' is neither in"):
        Moeret.open(five.store.path, settings=five.settings).query("heart")


# --- chosen experts


def choosing(moeret: Moeret, **experts: Path) -> Moeret:
    """A fresh handle on the same store, whose settings name these experts."""
    words = tuple(f"{domain}={folder}" for domain, folder in experts.items())
    return Moeret.open(moeret.store.path, settings=moeret.settings.model_copy(update={"experts": words}))


def test_a_new_domain_begins_with_the_expert_that_is_chosen_for_it(
    five: Moeret, packs: dict[str, Path]
) -> None:
    before = entries(five)
    choosing(five, joint=packs["joint"], copd=packs["copd"]).index_documents(SIXTH, domain="joint")
    after = entries(five)
    assert after.pop("joint").expert == packs["joint"].name
    assert after == before  # copd has a table: it waits for reindex
    assert five.query("heart", domains=["joint"]).hits  # the store holds the pack itself


def test_reindex_brings_domains_without_an_expert_to_the_chosen_one(
    five: Moeret, packs: dict[str, Path]
) -> None:
    five.register_expert("cvd", packs["cvd"])
    five.reindex()
    report = choosing(five, cvd=packs["joint"], copd=packs["copd"]).reindex()
    assert list(report.domains) == ["copd"]
    assert entries(five)["cvd"].expert == packs["cvd"].name
    assert entries(five)["copd"].expert == packs["copd"].name
    assert choosing(five, copd=packs["copd"]).reindexer().plan() == ()
    assert five.reindexer().plan() == ()  # once pinned, it needs not be chosen again


def test_a_candidate_comes_before_what_is_chosen(five: Moeret, packs: dict[str, Path]) -> None:
    five.register_expert("joint", packs["joint"])
    choosing(five, joint=packs["copd"]).index_documents(SIXTH, domain="joint")
    assert entries(five)["joint"].expert == packs["joint"].name


def test_a_chosen_expert_of_another_model_is_refused_by_name(five: Moeret, foreign: Path) -> None:
    with pytest.raises(ModelMismatchError, match="was trained on"):
        choosing(five, joint=foreign).index_documents(SIXTH, domain="joint")
    assert "joint" not in entries(five)


def test_an_expert_of_the_models_folder_is_not_replaced(inside: Moeret, packs: dict[str, Path]) -> None:
    before = entries(inside)["cvd"].expert
    chosen = choosing(inside, cvd=packs["copd"])
    assert chosen.reindexer().plan() == ()
    assert entries(inside)["cvd"].expert == before
