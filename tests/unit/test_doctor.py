"""The doctor finds what is wrong with a store, names a cure for it, and repairs what is derived."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import lance
import pytest

from moe_retrieval import Document, Moeret, Store
from moe_retrieval.doctor import Examination, Finding
from moe_retrieval.doctor import place as place_findings
from moe_retrieval.doctor.catalog import examine_catalog
from moe_retrieval.doctor.examination import examine_store
from moe_retrieval.doctor.repair import repair
from moe_retrieval.doctor.tables import is_long
from moe_retrieval.model import surgery
from moe_retrieval.settings import Settings
from moe_retrieval.storage.candidate_notes import CANDIDATES
from moe_retrieval.storage.catalog import DomainEntry, name_of
from moe_retrieval.storage.indexes.sidecar import read_all
from moe_retrieval.storage.maintenance.scrub import scrub
from moe_retrieval.storage.tables import sums
from tests.tiny_model import different

ROOT = Path(__file__).parents[2]
DOCUMENTS = 24


@pytest.fixture(scope="module")
def original(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source files of two domains, and their store: rows were deleted, an expert waits."""
    home = tmp_path_factory.mktemp("sound")
    for domain, word in (("cvd", "heart"), ("skin", "mole")):
        (home / "docs" / domain).mkdir(parents=True)
        for at in range(DOCUMENTS):
            (home / "docs" / domain / f"{domain}{at}.txt").write_text(f"{domain} {word} {at}")
    with Moeret.open(home / "store", settings=Settings(model=str(tiny_model))) as moeret:
        moeret.index(home / "docs")
        (home / "docs" / "cvd" / "cvd0.txt").write_text("another artery")
        moeret.index(home / "docs")
    return home


@pytest.fixture
def moeret(original: Path, tiny_model: Path, tmp_path: Path) -> Iterator[Moeret]:
    shutil.copytree(original / "store", tmp_path / "store")
    with Moeret.open(tmp_path / "store", settings=Settings(model=str(tiny_model))) as moeret:
        yield moeret


def look(moeret: Moeret, **wanted: bool) -> list[Finding]:
    """What is not well; whatever that is has a cure."""
    found = [*examine_store(moeret, moeret.store, Examination(**wanted))]
    assert all(one.cure for one in found if one.level != "ok"), found
    return [one for one in found if one.level != "ok"]


def mended(moeret: Moeret, **wanted: bool) -> str:
    """What a repair says it did."""
    done = repair(moeret, Examination(repair=True, **wanted))
    assert {one.level for one in done} == {"ok"}, done
    return " / ".join(one.message for one in done)


def entry_of(moeret: Moeret, domain: str = "cvd") -> DomainEntry:
    live = moeret.store.catalog.latest()
    assert live is not None
    return live.domains[domain]


def table_file(moeret: Moeret, part: str) -> Path:
    listed = sums.read(moeret.store.place, entry_of(moeret).sums).files
    return moeret.store.path / next(name for name in listed if part in name)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:30] + bytes([data[30] ^ 1]) + data[31:])


# --- a sound store


def test_nothing_is_wrong_with_a_sound_store(moeret: Moeret) -> None:
    assert look(moeret) == []
    assert look(moeret, scrub=True, sources=True) == []


def test_a_sound_store_is_not_repaired(moeret: Moeret) -> None:
    before = moeret.store.catalog.numbers()
    assert mended(moeret, scrub=True) == "nothing that can be made again was damaged"
    assert moeret.store.catalog.numbers() == before


# --- tables


@pytest.mark.parametrize("part", ["/data/", "/_deletions/", "/_versions/"])
@pytest.mark.parametrize(("damage", "said"), [(cut, "bytes,"), (Path.unlink, "is missing")])
def test_a_lost_or_torn_file_of_a_table_is_named_at_a_glance(
    moeret: Moeret, part: str, damage: Callable[[Path], None], said: str
) -> None:
    path = table_file(moeret, part)
    damage(path)
    found = look(moeret)
    assert {one.level for one in found} == {"failed"}
    assert path.name in found[0].message
    assert said in found[0].message
    assert "restore the store from a copy" in found[0].cure


@pytest.mark.parametrize("part", ["/data/", "/_deletions/", "/_versions/"])
def test_a_flipped_bit_in_a_table_is_found_by_the_scrub_and_not_repaired(moeret: Moeret, part: str) -> None:
    path = table_file(moeret, part)
    flip(path)
    found = [one for one in look(moeret, scrub=True) if one.subject == "scrub, table"]
    assert [path.name in one.message for one in found] == [True]
    repair(moeret, Examination(scrub=True, repair=True))
    assert any(path.name in one.message and one.failed for one in look(moeret, scrub=True))


def test_chunks_that_stand_twice_are_counted(moeret: Moeret) -> None:
    entry, live = entry_of(moeret), moeret.store.catalog.latest()
    assert live is not None
    dataset = moeret.store.view(entry).dataset
    lance.dataset(dataset.uri).insert(dataset.to_table().slice(0, 3))
    doubled = moeret.store.table(entry.table, resume=True).entry(expert=entry.expert, before=entry)
    moeret.store.catalog.publish(
        live.domains | {"cvd": doubled}, model=live.model, router=live.router, created=live.created
    )
    said = [one.message for one in look(moeret) if one.subject == "domain cvd"]
    assert "3 chunks stand twice" in said


def test_a_lost_text_index_is_built_again(moeret: Moeret) -> None:
    path = table_file(moeret, "/_indices/")
    path.unlink()
    assert path.name in look(moeret)[0].message
    assert "domain cvd: its text index was built again" in mended(moeret)
    assert look(moeret) == []
    assert moeret.query("heart", mode="text", domains=["cvd"]).hits


def test_a_flipped_text_index_is_built_again_when_all_bytes_are_read(moeret: Moeret) -> None:
    flip(table_file(moeret, "part_0_docs"))
    assert "its text index was built again" in mended(moeret, scrub=True)
    assert {one.level for one in look(moeret, scrub=True)} == {"warning"}  # an older generation has it still


@pytest.mark.parametrize(("tail", "rows", "long"), [(0, 0, False), (900, 1_000, False), (1_100, 5_000, True)])
def test_a_tail_is_long_by_its_share_of_a_table_that_is_not_small(tail: int, rows: int, long: bool) -> None:
    assert is_long(tail, rows) is long


# --- what is derived


@pytest.mark.parametrize("suffix", [".faiss", ".npy"])
def test_a_lost_index_file_is_built_again(moeret: Moeret, suffix: str) -> None:
    for path in moeret.store.indexes_dir.glob(f"*{suffix}"):
        path.unlink()
    assert {one.level for one in look(moeret)} == {"warning"}
    assert "it is built again" in mended(moeret)
    assert look(moeret) == []
    mended(moeret, scrub=True)  # those of older contents are known by their side-cars alone
    assert look(moeret, scrub=True) == []


def test_indexes_that_are_gone_altogether_are_built_again(moeret: Moeret) -> None:
    shutil.rmtree(moeret.store.indexes_dir)
    assert [one.message for one in look(moeret)] == ["has no vector index: the next query may build one"] * 2
    mended(moeret)
    assert look(moeret, scrub=True) == []


@pytest.mark.parametrize("suffix", [".faiss", ".npy", ".json"])
def test_a_flipped_index_file_is_removed_and_built_again(moeret: Moeret, suffix: str) -> None:
    live = next(one for one in read_all(moeret.store.indexes_dir) if one.digest == entry_of(moeret).digest)
    flip(moeret.store.indexes_dir / f"{live.name}{suffix}")
    assert [one.subject for one in look(moeret, scrub=True) if one.failed] == ["scrub, vector index"]
    mended(moeret, scrub=True)
    assert look(moeret, scrub=True) == []


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_router_is_fitted_again(moeret: Moeret, damage: Callable[[Path], None]) -> None:
    damage(moeret.store.routers_dir / f"{moeret.status().router}.safetensors")
    assert [one.subject for one in look(moeret)] == ["router"]
    assert "router: was fitted again" in mended(moeret)
    assert look(moeret) == []


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_lost_list_of_checksums_is_written_again_if_all_files_match(
    moeret: Moeret, damage: Callable[[Path], None]
) -> None:
    path = moeret.store.path / sums.name_of(entry_of(moeret).sums)
    before = path.read_bytes()
    damage(path)
    assert path.name in look(moeret)[0].message
    assert "the checksums of table d_cvd.g1 were listed again" in mended(moeret)
    assert path.read_bytes() == before
    assert look(moeret, scrub=True) == []


def test_a_list_of_checksums_is_not_made_up_for_damaged_files(moeret: Moeret) -> None:
    name = sums.name_of(entry_of(moeret).sums)
    flip(table_file(moeret, "/data/"))
    (moeret.store.path / name).unlink()
    repair(moeret, Examination(repair=True))
    assert any(name in one.message and one.failed for one in look(moeret))


# --- the catalog


def test_a_damaged_newest_generation_is_named_and_nothing_is_repaired(moeret: Moeret) -> None:
    name = name_of(moeret.store.catalog.numbers()[-1])
    flip(moeret.store.path / name)
    assert [one.failed for one in look(moeret) if name in one.message] == [True]
    done = repair(moeret, Examination(repair=True))
    assert [(one.failed, "nothing was repaired" in one.message) for one in done] == [(True, True)]


def test_a_damaged_older_generation_is_a_warning(moeret: Moeret) -> None:
    flip(moeret.store.path / name_of(1))
    assert [(one.level, one.subject) for one in look(moeret)] == [("warning", "generation 1")]


def test_a_generation_that_does_not_follow_is_found(moeret: Moeret, tiny_model: Path, tmp_path: Path) -> None:
    other = Moeret.open(tmp_path / "other", settings=Settings(model=str(tiny_model)))
    other.index_documents([Document("a", "another heart", domain="cvd")])
    shutil.copy(other.store.path / name_of(1), moeret.store.path / name_of(1))
    assert "does not follow from the generation before it" in look(moeret)[0].message


def test_a_newest_generation_that_is_gone_is_missed(moeret: Moeret) -> None:
    (moeret.store.path / name_of(moeret.store.catalog.numbers()[-1])).unlink()
    assert any("a generation is missing" in one.message for one in look(moeret))
    assert any(one.failed and "a generation is missing" in one.message for one in look(moeret, scrub=True))


def test_an_empty_generation_that_a_power_cut_left_is_set_aside(moeret: Moeret) -> None:
    path = moeret.store.path / name_of(moeret.store.catalog.numbers()[-1] + 1)
    path.touch()
    repair(moeret, Examination(repair=True))
    assert not path.exists()
    assert look(moeret) == []


@pytest.fixture
def first_format(tmp_path: Path) -> Moeret:
    """A store that a moeret of the first format wrote."""
    shutil.copytree(ROOT / "tests" / "fixtures" / "store-format-1", tmp_path / "old")
    return Moeret.open(tmp_path / "old")


def test_a_scrub_of_the_first_format_says_what_it_cannot_check(first_format: Moeret) -> None:
    report = scrub(first_format.store)
    assert report.damages == ()
    assert any(
        name.startswith("tables/") and "no checksums" in said for name, said in report.unchecked.items()
    )
    assert name_of(2) in report.unchecked


def test_a_damaged_table_of_the_first_format_is_found_by_reading_its_rows(first_format: Moeret) -> None:
    flipped = 0
    for path in first_format.store.path.glob("tables/*/data/*.lance"):
        path.write_bytes(path.read_bytes()[:-20])
        flipped += 1
    assert flipped
    assert {one.kind for one in scrub(first_format.store).damages} == {"table"}


def test_a_repair_records_the_checksums_that_the_first_format_lacks(first_format: Moeret) -> None:
    assert [one.subject for one in examine_catalog(first_format.store) if one.level != "ok"] == ["checksums"]
    assert "the checksums of its table are recorded" in mended(first_format)
    assert [one.subject for one in examine_catalog(first_format.store) if one.level != "ok"] == []
    live = first_format.store.catalog.latest()
    assert live is not None
    assert scrub(first_format.store, numbers=[live.number]).unchecked == {}


# --- sources


def test_source_files_that_are_gone_are_counted(moeret: Moeret, original: Path) -> None:
    path = original / "docs" / "cvd" / "cvd1.txt"
    aside = path.rename(path.with_suffix(".aside"))
    try:
        found = look(moeret)
    finally:
        aside.rename(path)
    assert [one.subject for one in found] == ["domain cvd"]
    assert f"1 of {DOCUMENTS} source files are gone, such as {path}" in found[0].message


def test_source_files_that_changed_are_found_when_they_are_read_again(moeret: Moeret, original: Path) -> None:
    path = original / "docs" / "skin" / "skin3.txt"
    before = path.read_text()
    path.write_text("other words")
    try:
        assert look(moeret) == []
        found = look(moeret, sources=True)
    finally:
        path.write_text(before)
    assert [one.subject for one in found] == ["domain skin"]
    assert f"1 documents changed and 0 are new in the source files, such as in {path}" in found[0].message


# --- runs, readers, writers, the place


def test_a_run_that_was_stopped_is_told_of(moeret: Moeret) -> None:
    table = moeret.store.table("d_cvd.g1")
    table.delete_documents(table.documents().keys[:1])
    assert ["was written to after generation 2" in one.message for one in look(moeret)] == [True]


def test_what_a_rollback_left_behind_is_no_unfinished_run(moeret: Moeret) -> None:
    assert moeret.rollback(1).generation == 3
    assert not any("was written to" in one.message for one in look(moeret))


def test_a_damaged_note_of_a_run_is_removed(moeret: Moeret) -> None:
    flip(moeret.store.path / "progress" / "d_cvd.g1")
    assert [one.subject for one in look(moeret, scrub=True)] == ["scrub, note of a run"]
    assert "progress/d_cvd.g1 was removed" in mended(moeret, scrub=True)
    assert look(moeret, scrub=True) == []


def test_notes_of_dead_readers_are_cleared(moeret: Moeret) -> None:
    code = (
        "import sys, os; from moe_retrieval import Store;"
        "from moe_retrieval.storage.maintenance.readers import hold_newest;"
        "found = hold_newest(Store.open(sys.argv[1]).catalog); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(moeret.store.path)], check=True, timeout=60)
    assert moeret.store.place.names("readers")
    assert "notes of readers that are gone were cleared" in mended(moeret)
    assert not [name for name in moeret.store.place.names("readers") if name.endswith(".json")]


def lease(moeret: Moeret) -> str:
    found = examine_store(moeret, moeret.store, Examination())
    return next(one.message for one in found if one.subject == "writer lease")


def test_who_writes_is_said(moeret: Moeret) -> None:
    with moeret.store.lease():
        assert f"process {os.getpid()} on " in lease(moeret)
        assert "held" in lease(moeret)


def test_a_lease_of_a_dead_process_is_told_as_free(moeret: Moeret) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(timeout=60)
    lock = moeret.store.path / "lock"
    note = json.loads(lock.read_bytes()) | {"pid": child.pid}
    lock.write_text(json.dumps(note))
    assert lease(moeret).startswith(f"free; last held by a process that is gone: process {child.pid} on ")


def test_a_lease_that_nobody_signed_is_told_as_free(moeret: Moeret) -> None:
    (moeret.store.path / "lock").write_text("not signed")
    assert lease(moeret) == "free; nobody has signed it"


def test_nothing_is_repaired_while_another_writes(moeret: Moeret) -> None:
    with Store.open(moeret.store.path).lease():
        done = repair(moeret, Examination(repair=True))
    assert [(one.failed, "another writer holds the store" in one.message) for one in done] == [(True, True)]


def test_a_network_file_system_is_warned_of(moeret: Moeret, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_findings, "network_warning", lambda folder: f"{folder} lies on nfs4")
    assert [(one.subject, "on a local disk" in one.cure) for one in look(moeret)] == [("file system", True)]


def test_a_disk_that_is_nearly_full_is_warned_of(moeret: Moeret, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(total=10**12, used=10**12 - 10**8, free=10**8)
    monkeypatch.setattr(place_findings.shutil, "disk_usage", lambda _folder: full)
    assert [(one.subject, one.message) for one in look(moeret)] == [("disk", "0.1 GB free of 1,000.0 GB")]


# --- experts that wait


@pytest.fixture
def waiting(moeret: Moeret, tiny_model: Path, tmp_path: Path) -> Moeret:
    model = different(surgery.upcycle(tiny_model), "cvd")
    moeret.register_expert("cvd", tmp_path / surgery.export_expert(model, "cvd", tmp_path))
    return moeret


def test_an_expert_that_waits_is_told_of(waiting: Moeret) -> None:
    assert [(one.level, one.cure) for one in look(waiting, scrub=True)] == [
        ("warning", "moeret reindex --domain cvd")
    ]


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_note_of_an_expert_that_waits_is_named(
    waiting: Moeret, damage: Callable[[Path], None]
) -> None:
    damage(waiting.store.path / CANDIDATES / "cvd")
    assert [(one.subject, one.failed) for one in look(waiting)] == [("candidates", True)]
    assert waiting.query("heart").hits
