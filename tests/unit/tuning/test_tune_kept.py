"""What a tuning says of held-out queries is what the store then gives them; nobody writes in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from moe_retrieval import Document, Encoder, Indexer, Retriever, Store
from moe_retrieval.calibration import Basis, DomainCalibration
from moe_retrieval.errors import StoreBusyError
from moe_retrieval.model import surgery
from moe_retrieval.retrieval.calibrating import calibration_of
from moe_retrieval.retrieval.publisher import retune
from moe_retrieval.storage.catalog import Generation
from moe_retrieval.tuning.queries import JudgedQuery, read_queries
from moe_retrieval.tuning.report import Part, Trial, TuneReport
from moe_retrieval.tuning.run import tune
from moe_retrieval.tuning.searches import search
from moe_retrieval.types import Precision
from tests.tiny_model import different
from tests.unit.tuning.conftest import DOMAINS, write_folder

COUNT = 120
SIDES = ("heart blood pressure", "skin sun mole")


@pytest.fixture(scope="module")
def pack(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packs")
    return folder / surgery.export_expert(different(surgery.upcycle(tiny_model), "cvd"), "cvd", folder)


@pytest.fixture(scope="module")
def spaces(tiny_model: Path, pack: Path) -> Encoder:
    """An encoder under which cvd has a vector space of its own."""
    return Encoder.load(tiny_model, experts={"cvd": pack}, precision=Precision.FP32)


@pytest.fixture
def mixed(tmp_path: Path, spaces: Encoder) -> Iterator[Retriever]:
    """Two domains that are asked about, in two spaces, and a third in the space of the second."""
    store = Store.open(tmp_path / "mixed", create=True, durable=False)
    indexer = Indexer(store, encoder=spaces)
    for side, domain in enumerate(DOMAINS):
        indexer.index(documents(side), domain=domain)
    indexer.index([Document(f"e{at}", f"light joint tumour {at}") for at in range(30)], domain="eye")
    retriever = Retriever(store, encoder=spaces)
    yield retriever
    retriever.close()


def documents(side: int) -> list[Document]:
    return [Document(f"d{at}", f"{SIDES[side]} zq{at}x dose") for at in range(side, COUNT, 2)]


def write(folder: Path, *, sides: tuple[str, str] = SIDES) -> Path:
    """A question for every document: its own text, or the same with the words of `sides` around its code."""
    write_folder(folder, [f"{sides[at % 2]} zq{at}x dose" for at in range(COUNT)])
    return folder


def live(retriever: Retriever) -> Generation:
    found = retriever.store.catalog.latest()
    assert found is not None
    return found


def held(folder: Path) -> list[JudgedQuery]:
    return [one for one in read_queries(folder, known=DOMAINS) if one.held]


def trial(report: TuneReport, part: Part) -> Trial:
    (found,) = [one for one in report.trials if one.part is part]
    return found


def of_the_store(retriever: Retriever, folder: Path) -> float:
    """nDCG@10 of the held-out queries, routed, under all that the live generation was tuned to."""
    snapshot = retriever.snapshot()
    found = search(retriever, held(folder), snapshot=snapshot, routed=True)
    return float(
        np.mean([one.ndcg(tuning=snapshot.tuning, calibration=snapshot.calibration) for one in found])
    )


def misjudge(retriever: Retriever) -> None:
    """Calibrations under which every chunk of cvd is hopeless and every one of skin certain; and no router,
    so that all domains are searched.
    """
    now = live(retriever)
    wrong = {
        domain: DomainCalibration(1.0, intercept, now.domains[domain].fingerprint)
        for domain, intercept in (("cvd", -60.0), ("skin", 60.0))
    }
    retune(retriever.store, live=now, calibration=wrong, router="")


def test_calibrations_that_gain_are_saved_and_the_store_answers_as_promised(
    mixed: Retriever, tmp_path: Path
) -> None:
    folder = write(tmp_path / "judged")
    misjudge(mixed)
    before = live(mixed)
    report = tune(mixed, folder)
    scales = trial(report, Part.CALIBRATION)
    assert scales.kept
    assert scales.before is not None
    assert scales.after is not None
    assert scales.after > scales.before + 0.05
    now = calibration_of(live(mixed))
    assert {domain: one.basis for domain, one in now.items()} == {
        "cvd": Basis.JUDGED,
        "skin": Basis.JUDGED,
        "eye": Basis.STATISTICS,
    }
    assert {domain: now[domain] for domain in DOMAINS} == report.calibration
    assert live(mixed).number == before.number + 1
    assert of_the_store(mixed, folder) == pytest.approx(scales.after, abs=1e-9)
    assert not trial(tune(mixed, folder), Part.CALIBRATION).kept
    assert calibration_of(live(mixed)) == now


def test_a_router_that_learns_where_questions_belong_is_saved_and_sends_the_others_there(
    mixed: Retriever, tmp_path: Path
) -> None:
    """Each domain is asked about in the words of the other one."""
    folder = write(tmp_path / "judged", sides=(SIDES[1], SIDES[0]))
    before = live(mixed)
    report = tune(mixed, folder)
    routing = trial(report, Part.ROUTER)
    assert routing.kept
    assert routing.before is not None
    assert routing.after is not None
    assert routing.after > routing.before + 0.2
    assert live(mixed).router != before.router
    answers = mixed.query_many([one.text for one in held(folder)], k=1)
    right = [
        one.domain in {route.domain for route in answer.routes}
        for one, answer in zip(held(folder), answers, strict=True)
    ]
    assert np.mean(right) > 0.9
    snapshot = mixed.snapshot()
    assert snapshot.router is not None
    chosen_by = [one.text for one in read_queries(folder, known=DOMAINS) if not one.held]
    vectors = snapshot.vectors(chosen_by)  # those of the half that decides are not among what it learns
    np.testing.assert_allclose(snapshot.router.queries.vectors, vectors, atol=2e-3)
    again = tune(mixed, folder)
    assert not trial(again, Part.ROUTER).kept


def test_while_another_writes_nothing_is_tuned_but_can_be_tried(
    retriever: Retriever, store: Store, folder: Path
) -> None:
    before = store.catalog.latest()
    searched: list[int] = []
    with store.lease():
        with pytest.raises(StoreBusyError, match="another writer holds the store"):
            tune(retriever, folder, progress=searched.append)
        assert not searched, "who cannot save is told before the work, not after it"
        assert tune(retriever, folder, dry_run=True).gains
    assert store.catalog.latest() == before
    assert tune(retriever, folder).generation


def test_nobody_else_writes_while_a_store_is_tuned(retriever: Retriever, store: Store, folder: Path) -> None:
    refused: list[str] = []

    def write_meanwhile(_count: int) -> None:
        try:
            with store.lease(0):
                pass
        except StoreBusyError as error:
            refused.append(error.message)

    report = tune(retriever, folder, progress=write_meanwhile)
    assert report.generation
    assert refused
    with store.lease(0):
        pass
