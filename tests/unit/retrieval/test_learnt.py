"""What was learnt from judged queries stays with its domain while the vectors that it was learnt on do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_retrieval import Document, Encoder, Indexer, Reindexer, Retriever, Store
from moe_retrieval.calibration import Basis, DomainCalibration, Tuning
from moe_retrieval.domain_changes import describe, remove
from moe_retrieval.generations import roll_back
from moe_retrieval.model import surgery
from moe_retrieval.renaming import rename_domain
from moe_retrieval.retrieval.calibrating import calibration_of
from moe_retrieval.retrieval.candidates import take_in_packs
from moe_retrieval.retrieval.fusion import ROUTE_POWER, SURE_ROUTE_POWER
from moe_retrieval.retrieval.pinned import EncoderChoice
from moe_retrieval.retrieval.publisher import publish, retune
from moe_retrieval.retrieval.routing import load_router, taught_router
from moe_retrieval.router import Router
from moe_retrieval.router_queries import KnownQueries
from moe_retrieval.storage.catalog import Generation
from moe_retrieval.types import Forgotten, Precision
from moeret_cli.wording import forgetting
from tests.tiny_model import different

WORDS = {"cvd": "heart attack artery blood pressure", "skin": "mole skin sun lesion light"}
QUESTIONS = {domain: [f"{words.split()[at % 4]} {at}" for at in range(30)] for domain, words in WORDS.items()}


@pytest.fixture(scope="module")
def pack(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An expert for cvd, so that the store has two vector spaces."""
    folder = tmp_path_factory.mktemp("packs")
    return folder / surgery.export_expert(different(surgery.upcycle(tiny_model), "cvd"), "cvd", folder)


@pytest.fixture(scope="module")
def encoder(tiny_model: Path, pack: Path) -> Encoder:
    return Encoder.load(tiny_model, experts={"cvd": pack}, precision=Precision.FP32)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """A store with a taught router, a judged calibration of cvd, one of skin by its texts, and weights."""
    folder = tmp_path_factory.mktemp("taught") / "store"
    store = Store.open(folder, create=True, durable=False)
    take_in_packs(store, encoder)
    for domain in WORDS:
        Indexer(store, encoder=encoder).index(texts(domain), domain=domain)
    before = live(store)
    router = taught_router(
        store,
        before,
        encoder,
        texts=[text for part in QUESTIONS.values() for text in part],
        domains=[domain for domain, part in QUESTIONS.items() for _ in part],
    )
    assert router is not None
    retune(
        store,
        live=before,
        calibration={"cvd": DomainCalibration(9.0, -4.0, before.domains["cvd"].fingerprint)},
        tuning=Tuning(weight=0.6, weights={"cvd": 0.4, "skin": 0.8}, source="judged"),
        router=router.save(store.routers_dir),
    )
    return folder


@pytest.fixture
def store(taught: Path, tmp_path: Path) -> Store:
    return Store.open(Path(shutil.copytree(taught, tmp_path / "store")), durable=False)


@pytest.fixture
def indexer(store: Store, encoder: Encoder) -> Indexer:
    return Indexer(store, encoder=encoder)


def texts(domain: str, *, beside: str = "") -> list[Document]:
    return [Document(f"{domain}{at}", f"{WORDS[domain]} {beside} {at}") for at in range(25)]


def choice(tiny_model: Path) -> EncoderChoice:
    return EncoderChoice(model=str(tiny_model), precision=Precision.FP32)


def live(store: Store) -> Generation:
    found = store.catalog.latest()
    assert found is not None
    return found


def router_of(store: Store) -> Router:
    found = load_router(store, live(store))
    assert found is not None
    return found


def basis(store: Store) -> dict[str, Basis]:
    return {domain: one.basis for domain, one in calibration_of(live(store)).items()}


def test_a_renamed_domain_keeps_what_was_learnt_of_it(
    store: Store, encoder: Encoder, tiny_model: Path
) -> None:
    before = live(store)
    rename_domain(store, choice(tiny_model), "skin", new="derma")
    after = live(store)
    assert after.calibration["derma"] == before.calibration["skin"]
    assert after.calibration["cvd"] == before.calibration["cvd"]
    assert Tuning.from_dict(after.tuning).weights == {"cvd": 0.4, "derma": 0.8}
    assert router_of(store).queries.domains.count("derma") == 30
    assert router_of(store).queries.fitted
    assert "derma" in {route.domain for route in Retriever(store, encoder=encoder).query("sun skin").routes}


def test_a_removed_domain_takes_what_was_learnt_of_it_along_and_nothing_else(
    store: Store, encoder: Encoder
) -> None:
    before = live(store)
    remove(store, "skin", encoder=encoder)
    after = live(store)
    assert after.calibration == {"cvd": before.calibration["cvd"]}
    assert Tuning.from_dict(after.tuning) == replace(Tuning.from_dict(before.tuning), weights={"cvd": 0.4})
    assert set(router_of(store).queries.domains) == {"cvd"}


def test_a_route_counts_more_while_the_router_is_right_about_questions(
    store: Store, encoder: Encoder
) -> None:
    retriever = Retriever(store, encoder=encoder)
    assert retriever.snapshot().route_power == SURE_ROUTE_POWER
    assert all(one.route_power == SURE_ROUTE_POWER for one in retriever.search_many(["sun skin"])[0])
    known = router_of(store).queries
    unsure = replace(known, held=replace(known.held, chances=np.full(60, 0.7)))
    for queries in (unsure, KnownQueries()):
        router = replace(router_of(store), queries=queries)
        retune(store, live=live(store), router=router.save(store.routers_dir))
        assert Retriever(store, encoder=encoder).snapshot().route_power == ROUTE_POWER


def test_a_description_changes_nothing_that_was_learnt(store: Store) -> None:
    before = live(store)
    describe(store, "skin", "the skin")
    after = live(store)
    assert (after.calibration, after.tuning, after.router) == (
        before.calibration,
        before.tuning,
        before.router,
    )


def test_an_index_run_fits_anew_what_was_fitted_to_texts_that_changed_and_that_alone(
    store: Store, indexer: Indexer
) -> None:
    before = live(store)
    report = indexer.index([Document("new", "a mole in the light")], domain="skin")
    after = live(store)
    assert after.calibration["cvd"] == before.calibration["cvd"]
    assert after.calibration["skin"]["digest"] == after.domains["skin"].digest
    assert after.calibration["skin"]["digest"] != before.calibration["skin"]["digest"]
    assert after.tuning == before.tuning
    assert len(router_of(store).queries.domains) == 60
    assert report.forgotten is None


def test_a_judged_calibration_outlasts_changes_of_the_texts(store: Store, indexer: Indexer) -> None:
    before = live(store)
    indexer.index([Document("new", "a stroke")], domain="cvd")
    assert live(store).calibration == before.calibration


def test_embedding_the_same_vectors_again_forgets_nothing(store: Store, encoder: Encoder) -> None:
    before = live(store)
    report = Reindexer(store, encoder=encoder).run(domains=["cvd"], force=True)
    assert report.encoded == 25
    assert (live(store).calibration, live(store).tuning) == (before.calibration, before.tuning)
    assert report.forgotten is None


def test_another_general_space_forgets_questions_and_judgements_and_says_so(
    store: Store, tiny_model: Path, pack: Path
) -> None:
    shorter = Encoder.load(tiny_model, experts={"cvd": pack}, precision=Precision.FP32, max_length=24)
    report = Reindexer(store, encoder=shorter).run()
    assert report.forgotten == Forgotten(60, ("cvd",))
    assert basis(store) == {"cvd": Basis.STATISTICS, "skin": Basis.STATISTICS}
    assert router_of(store).queries.domains == ()
    assert Reindexer(store, encoder=shorter).run(force=True).forgotten is None


def test_questions_of_a_domain_that_a_run_empties_are_told_as_forgotten(
    store: Store, indexer: Indexer
) -> None:
    report = indexer.index(texts("skin"), domain="other")
    assert report.moved == 25
    assert report.forgotten == Forgotten(30)
    assert indexer.index([Document("more", "light")], domain="other").forgotten is None


def test_a_rollback_takes_back_what_was_learnt_and_another_brings_it_again(
    store: Store, tiny_model: Path
) -> None:
    before = live(store)
    roll_back(store, choice(tiny_model))
    assert live(store).tuning == {}
    assert basis(store) == {"cvd": Basis.STATISTICS, "skin": Basis.STATISTICS}
    assert not router_of(store).queries.domains
    roll_back(store, choice(tiny_model))
    after = live(store)
    assert (after.calibration, after.tuning, after.router) == (
        before.calibration,
        before.tuning,
        before.router,
    )


def test_a_store_that_an_older_version_left_uncalibrated_is_calibrated_by_the_next_run_and_then_left_alone(
    store: Store, indexer: Indexer
) -> None:
    now = live(store)
    store.catalog.publish(now.domains, model=now.model, router=now.router, created=now.created)
    assert live(store).calibration == {}
    indexer.index(texts("cvd"), domain="cvd")
    assert basis(store) == {"cvd": Basis.STATISTICS, "skin": Basis.STATISTICS}
    number = live(store).number
    indexer.index(texts("cvd"), domain="cvd")
    assert live(store).number == number


def test_a_domain_that_was_emptied_since_the_router_was_fitted_is_passed_over(
    store: Store, encoder: Encoder
) -> None:
    """As a run that was killed may leave it: the router still knows the domain."""
    retriever = Retriever(store, encoder=encoder)
    assert [route.domain for route in retriever.query("mole skin sun", mass=0.01).routes] == ["skin"]
    now = live(store)
    entries = {**now.domains, "skin": replace(now.domains["skin"], rows=0)}
    publish(store, entries, live=now, encoder=encoder, refit=False, partial=True)
    answer = retriever.query("mole skin sun", mass=0.01)
    assert [route.domain for route in answer.routes] == ["cvd"]
    assert answer.hits


def test_a_domain_that_the_router_does_not_know_yet_is_as_probable_as_the_likeliest(
    store: Store, encoder: Encoder
) -> None:
    """As a long run leaves it until its end: what was taught must not be outdone by what is new."""
    now = live(store)
    entries = {**now.domains, "derma": now.domains["skin"]}
    publish(store, entries, live=now, encoder=encoder, refit=False, partial=True)
    routes = Retriever(store, encoder=encoder).query("artery skin", mass=1.0).routes
    known = max(route.probability for route in routes if route.domain != "derma")
    assert known < 1.0
    assert {route.domain: route.probability for route in routes}["derma"] == known


def test_a_run_says_what_is_forgotten_and_what_teaches_it_again() -> None:
    assert forgetting(Forgotten(questions=1)) == (
        "forgotten: 1 question that the router knew; moeret tune DIR teaches them again"
    )
    assert "the judged calibration of a, b; moeret tune" in forgetting(Forgotten(0, ("a", "b")))
