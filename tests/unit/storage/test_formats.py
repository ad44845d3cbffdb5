"""A store of the first format, kept as it was written, opens and goes on; one of a later format is refused.

`tests/fixtures/store-format-1` was written by the bundled encoder in fp32: documents of three domains in two
generations. Every test works on a copy.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from moe_retrieval import Document, Encoder, Indexer, Moeret, Retriever, Store
from moe_retrieval.doctor import examine
from moe_retrieval.errors import StoreVersionError
from moe_retrieval.generations import history, roll_back
from moe_retrieval.retrieval.pinned import EncoderChoice
from moe_retrieval.settings import Settings, load_settings
from moe_retrieval.storage.catalog import FORMAT
from moe_retrieval.storage.maintenance import gc
from moe_retrieval.types import Mode, Precision

KEPT = Path(__file__).parents[2] / "fixtures" / "store-format-1"
ASKED = {
    "does a small daily dose of aspirin lower the risk of a heart attack": "aspirin",
    "aching muscles under a statin": "statins",
    "a mole that changes its colour": "mole",
    "when is the reading room open": "library",
}
ASPIRIN = Document(
    "aspirin",
    "Low-dose aspirin after a heart attack\n\nAspirin keeps platelets from clumping. After a heart attack a "
    "small daily dose lowers the risk of another one.\n",
    source="notes/cvd/aspirin.txt",
    title="Low-dose aspirin after a heart attack",
    metadata={"year": 2020},
)
NEW = Document("sun", "Sunlight on fair skin raises the risk of melanoma.", source="notes/derma/sun.txt")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(precision=Precision.FP32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copytree(KEPT, tmp_path / "store"))


@pytest.fixture
def kept(path: Path) -> Store:
    return Store.open(path)


def format_of(store: Store, number: int) -> int:
    return int(json.loads(store.place.read(f"catalog/gen-{number:08d}.json"))["format"])


def found(retriever: Retriever, mode: Mode) -> dict[str, str]:
    return {text: retriever.query(text, mode=mode).hits[0].doc_id for text in ASKED}


def test_its_generations_are_of_the_first_format(kept: Store) -> None:
    assert [past.number for past in history(kept)] == [1, 2]
    assert {past.obstacle for past in history(kept)} == {""}
    assert {format_of(kept, number) for number in kept.catalog.numbers()} == {1} < {1, FORMAT}


@pytest.mark.parametrize("mode", list(Mode))
def test_it_answers_with_the_right_documents(kept: Store, encoder: Encoder, mode: Mode) -> None:
    assert found(Retriever(kept, encoder=encoder), mode) == ASKED


def test_the_encoder_it_pins_is_found_by_what_it_records(path: Path) -> None:
    with Moeret.open(path, settings=Settings()) as moeret:
        assert moeret.query("a mole that changes its colour").hits[0].doc_id == "mole"


def test_its_rows_are_those_that_were_published(kept: Store) -> None:
    for number in kept.catalog.numbers():
        for entry in kept.catalog.read(number).domains.values():
            assert kept.view(entry).digest() == entry.digest


def test_the_doctor_finds_nothing_wrong(path: Path) -> None:
    findings = examine(load_settings(store=str(path)))
    assert [finding.message for finding in findings if finding.failed] == []


def test_indexing_goes_on_and_publishes_the_present_format(kept: Store, encoder: Encoder) -> None:
    report = Indexer(kept, encoder=encoder).index([ASPIRIN], domain="cvd")
    assert (report.unchanged, report.encoded) == (1, 0), "documents and chunks are named as they were"
    report = Indexer(kept, encoder=encoder).index([NEW], domain="derma")
    assert report.encoded == 1
    live = kept.catalog.latest()
    assert live is not None
    assert format_of(kept, live.number) == FORMAT
    assert {name: entry.rows for name, entry in live.domains.items()} == {"cvd": 2, "derma": 2, "general": 1}
    assert live.domains["derma"].sums
    assert kept.catalog.history()[0].number == 1
    retriever = Retriever(kept, encoder=encoder)
    assert found(retriever, Mode.HYBRID) == ASKED
    assert retriever.query("sunlight and melanoma").hits[0].doc_id == "sun"


def test_it_can_be_rolled_back_to_its_first_generation(kept: Store, encoder: Encoder) -> None:
    Indexer(kept, encoder=encoder).index([NEW], domain="derma")
    roll_back(kept, EncoderChoice(precision=Precision.FP32), to=1)
    live = kept.catalog.latest()
    assert live is not None
    assert live.note == "rollback to 1"
    assert {name: entry.rows for name, entry in live.domains.items()} == {"cvd": 2, "derma": 1}
    hits = Retriever(kept, encoder=encoder).query("sunlight reading room", k=9).hits
    assert {hit.doc_id for hit in hits} <= {"aspirin", "statins", "mole"}


def test_what_only_its_old_generations_need_can_be_collected(kept: Store, encoder: Encoder) -> None:
    Indexer(kept, encoder=encoder).index([NEW], domain="derma")
    report = gc.collect(kept, keep=1)
    assert report.generations == (kept.catalog.numbers()[-1],)
    assert found(Retriever(kept, encoder=encoder), Mode.HYBRID) == ASKED


def test_a_handle_that_was_open_when_the_new_format_came_goes_on_answering(
    kept: Store, path: Path, encoder: Encoder
) -> None:
    before = Retriever(Store.open(path), encoder=encoder)
    begun = before.snapshot()
    Indexer(kept, encoder=encoder).index([NEW], domain="derma")
    vectors = encoder.encode_query(["a mole that changes its colour"], domain="derma")
    assert begun.index("derma").search(vectors, k=5)[0].keys.size == 1
    assert found(before, Mode.HYBRID) == ASKED
    assert before.query("sunlight and melanoma").hits[0].doc_id == "sun"


def with_format(path: Path, number: int) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": number}))


def test_a_generation_of_a_later_format_is_refused_by_name(path: Path) -> None:
    with_format(path / "catalog" / "gen-00000002.json", 99)
    with pytest.raises(StoreVersionError, match=r"gen-00000002\.json has format 99") as caught:
        Store.open(path).catalog.latest()
    assert caught.value.hint == "upgrade moeret"
    with pytest.raises(StoreVersionError):
        gc.collect(Store.open(path), keep=1)
    assert len(list((path / "catalog").glob("gen-*.json"))) == 2


def test_a_store_of_a_later_format_is_refused_by_name(path: Path) -> None:
    with_format(path / "store.json", 99)
    with pytest.raises(StoreVersionError, match="has format 99, this moeret reads up to") as caught:
        Store.open(path)
    assert caught.value.hint == "upgrade moeret"
