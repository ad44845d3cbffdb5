"""Collecting garbage takes what nothing needs, and never what a generation, a reader or a later run does."""

from __future__ import annotations

import ast
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from storage_builders import DIM, batch_of, filled, key_of, published, rows_of

import moe_retrieval
from moe_retrieval.errors import StoreBusyError, StoreCorruptError, StoreError, UsageError
from moe_retrieval.storage.index import build_index
from moe_retrieval.storage.maintenance import gc as garbage
from moe_retrieval.storage.maintenance.gc import GcReport, collect
from moe_retrieval.storage.maintenance.readers import Readers
from moe_retrieval.storage.maintenance.sweep import Kind, weigh
from moe_retrieval.storage.store import Store
from moe_retrieval.storage.tables.table_files import manifests
from tests.object_server import moto_server, use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.tables.table import Table

SHA = "ab" * 32
OTHER = "cd" * 32
LATER = 2 * 86_400.0


def names(report: GcReport, kind: Kind) -> list[str]:
    return [one.name for one in report.removed if one.kind is kind]


def reasons(report: GcReport) -> dict[str, str]:
    return {one.name: one.why for one in report.kept}


def grown(store: Store, *, generations: int) -> Table:
    """A table of which each generation holds one document more."""
    table = filled(store, {"d0": "text 0"})
    published(store, table)
    for number in range(1, generations):
        table.write(batch_of(rows_of(f"d{number}", [f"text {number}"])))
        table.maintain()
        published(store, table)
    return table


def rows_of_generation(store: Store, number: int) -> dict[str, int]:
    return {name: store.view(entry).rows for name, entry in store.catalog.read(number).domains.items()}


def republished(store: Store, live: Generation, **changes: object) -> Generation:
    """A generation of the same domains with other values in each entry, or another router."""
    router = str(changes.pop("router", live.router))
    domains = {name: replace(entry, **changes) for name, entry in live.domains.items()}  # type: ignore[arg-type]
    return store.catalog.publish(domains, model=live.model, router=router, created=live.created)


def live_of(store: Store) -> Generation:
    live = store.catalog.latest()
    assert live is not None
    return live


def old(path: Path) -> None:
    long_ago = time.time() - LATER
    os.utime(path, (long_ago, long_ago))


# --- generations and versions ------------------------------------------------------------------------------


def test_the_newest_generations_stay_whole_and_older_ones_go(store: Store) -> None:
    grown(store, generations=6)
    with store.lease():  # who held it last stands in a file
        before = weigh(store.place, "")
    report = collect(store, keep=2)
    assert report.generations == (5, 6) == tuple(store.catalog.numbers())
    assert names(report, Kind.GENERATION) == ["1", "2", "3", "4"]
    assert [rows_of_generation(store, number)["cvd"] for number in (5, 6)] == [5, 6]
    assert before - weigh(store.place, "") == report.bytes > 0
    assert store.catalog.history()[-1].number == 6


def test_only_versions_that_a_kept_generation_pins_stay(store: Store) -> None:
    grown(store, generations=5)
    pinned = {store.catalog.read(number).domains["cvd"].version for number in (4, 5)}
    report = collect(store, keep=2)
    assert {version for version, _ in manifests(store.place, "d_cvd.g1")} == pinned
    assert len(names(report, Kind.VERSIONS)) == 1


def test_a_second_run_finds_nothing_to_do(store: Store) -> None:
    grown(store, generations=4)
    collect(store, keep=2)
    again = collect(store, keep=2)
    assert again.removed == ()
    assert again.bytes == 0


def test_a_dry_run_says_the_same_and_changes_nothing(store: Store) -> None:
    grown(store, generations=4)
    before = sorted((path, path.stat().st_mtime_ns) for path in store.place.local.rglob("*"))
    said = collect(store, keep=1, dry_run=True)
    assert sorted((path, path.stat().st_mtime_ns) for path in store.place.local.rglob("*")) == before
    done = collect(store, keep=1)
    assert [(one.kind, one.name) for one in said.removed] == [(one.kind, one.name) for one in done.removed]
    assert said.bytes == pytest.approx(done.bytes, rel=0.1)
    assert said.dry_run
    assert not done.dry_run


def test_the_rows_of_a_kept_version_are_what_they_were(store: Store) -> None:
    """Documents were replaced, deleted and compacted between the versions that stay."""
    table = grown(store, generations=3)
    table.write(
        batch_of(rows_of("d1", ["other text"], doc_hash=2), seed=7), replaces=np.array([key_of("d1")])
    )
    table.delete_documents(np.array([key_of("d2")]))
    table.maintain()
    published(store, table)
    kept = {number: store.view(store.catalog.read(number).domains["cvd"]).digest() for number in (3, 4)}
    collect(store, keep=2)
    for number, digest in kept.items():
        entry = store.catalog.read(number).domains["cvd"]
        assert store.view(entry).digest() == digest == entry.digest
        assert store.view(entry).search_text("text", k=5).keys.size == entry.rows


def test_writing_goes_on_after_versions_were_removed(store: Store) -> None:
    grown(store, generations=4)
    collect(store, keep=1)
    table = store.table("d_cvd.g1")
    table.write(batch_of(rows_of("d9", ["one more"])))
    published(store, table)
    assert rows_of_generation(store, 5) == {"cvd": 5}


def test_rows_of_a_killed_run_stay_to_be_gone_on_with(store: Store) -> None:
    grown(store, generations=3)
    table = store.table("d_cvd.g1", resume=True)
    table.write(batch_of(rows_of("d8", ["not published"])))
    table.write(batch_of(rows_of("d9", ["nor this"])))
    collect(store, keep=1)
    assert store.table("d_cvd.g1", resume=True).rows == 5
    assert rows_of_generation(store, 3) == {"cvd": 3}


def test_a_torn_version_that_a_power_cut_left_is_set_aside_and_named(store: Store) -> None:
    grown(store, generations=3)
    store.table("d_cvd.g1").write(batch_of(rows_of("d9", ["torn"])))
    newest = store.place.local / manifests(store.place, "d_cvd.g1")[0][1]
    newest.write_bytes(b"")
    report = collect(store, keep=1)
    assert any(name.endswith(f"{newest.name}.damaged") for name in reasons(report))
    assert rows_of_generation(store, 3) == {"cvd": 3}
    assert len(manifests(store.place, "d_cvd.g1")) == 1


def test_keeping_none_is_refused(store: Store) -> None:
    grown(store, generations=1)
    with pytest.raises(UsageError, match="--keep is 0"):
        collect(store, keep=0)


def test_a_store_without_a_generation_is_left_alone(store: Store) -> None:
    filled(store, {"a": "x"})
    report = collect(store)
    assert report.removed == ()
    assert list(reasons(report)) == ["table d_cvd.g1"]


def test_another_writer_is_waited_for_not_run_over(store: Store) -> None:
    grown(store, generations=2)
    with store.lease(), pytest.raises(StoreBusyError):
        collect(store, keep=1)
    assert store.catalog.numbers() == [1, 2]


# --- readers -----------------------------------------------------------------------------------------------


def test_what_a_live_reader_holds_stays_until_it_lets_go(store: Store) -> None:
    grown(store, generations=4)
    first = store.catalog.read(1)
    with Readers(store.place).hold(first):
        report = collect(store, keep=1)
        assert report.generations == (1, 4)
        assert reasons(report)["generation 1"].startswith(f"read by process {os.getpid()} on ")
        assert store.view(first.domains["cvd"]).rows == 1
    assert collect(store, keep=1).generations == (4,)


def test_a_reader_that_came_while_its_generation_went_keeps_its_tables(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It registered after `gc` had chosen, and looked for the file before it went: its tables must stay."""
    grown(store, generations=3)
    first = store.catalog.read(1)
    holds = []
    choose = garbage._Collection._doom

    def late(self: object, going: object) -> set[str]:
        holds.append(Readers(store.place).hold(first))
        return choose(self, going)  # type: ignore[arg-type]

    monkeypatch.setattr(garbage._Collection, "_doom", late)
    assert collect(store, keep=1).generations == (3,)
    assert store.view(first.domains["cvd"]).rows == 1
    holds[0].close()


def test_without_notes_of_readers_what_was_the_newest_within_the_hour_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a bucket, where nothing can be locked."""
    grown(store, generations=3)  # all of them are published as of 2026-01-01 00:00 UTC
    then = 1_767_225_600.0
    monkeypatch.setattr(Readers, "known", False)
    report = collect(store, keep=1, clock=lambda: then + 1_800)
    assert report.generations == (1, 2, 3)
    assert "may be read" in reasons(report)["generation 1"]
    assert collect(store, keep=1, clock=lambda: then + 3_601).generations == (3,)


# --- tables ------------------------------------------------------------------------------------------------


def reindexed(store: Store, *, domain: str = "cvd") -> DomainEntry:
    """A new table takes the place of the domain's."""
    return published(store, filled(store, {"a": "x"}, domain=domain), domain=domain)


def test_tables_that_no_kept_generation_names_go(store: Store) -> None:
    for _ in range(4):
        reindexed(store)
    report = collect(store, keep=2)
    assert names(report, Kind.TABLE) == ["d_cvd.g1", "d_cvd.g2"]
    assert store.place.names("tables") == ["d_cvd.g3.lance", "d_cvd.g4.lance"]


def test_the_table_of_a_killed_reindex_stays(store: Store) -> None:
    reindexed(store)
    left = store.create_table("cvd", dim=DIM, fingerprint="space-two")
    left.write(batch_of(rows_of("a", ["x"])))
    published(store, store.table("d_cvd.g1"))
    report = collect(store, keep=1)
    assert "the next goes on with it" in reasons(report)["table d_cvd.g2"]
    found = store.unpublished("cvd", fingerprint="space-two")
    assert found is not None
    assert found.rows == 1


def test_it_stays_also_when_generations_since_are_gone(store: Store) -> None:
    reindexed(store)
    store.create_table("cvd", dim=DIM, fingerprint="space-two")
    for _ in range(3):
        published(store, store.table("d_cvd.g1"))
        collect(store, keep=1)
    assert store.place.names("tables") == ["d_cvd.g1.lance", "d_cvd.g2.lance"]


def test_of_several_such_tables_only_the_newest_of_an_encoder_stays(store: Store) -> None:
    reindexed(store)
    for fingerprint in ("space-two", "space-three", "space-two"):
        store.create_table("cvd", dim=DIM, fingerprint=fingerprint)
    assert names(collect(store), Kind.TABLE) == ["d_cvd.g2"]


def test_the_table_of_a_removed_domain_goes(store: Store) -> None:
    reindexed(store, domain="derma")
    reindexed(store, domain="cvd")  # the generation holds cvd alone
    assert names(collect(store, keep=1), Kind.TABLE) == ["d_derma.g1"]


def test_a_table_of_a_new_domain_that_was_never_published_stays_while_nothing_was_since(store: Store) -> None:
    reindexed(store)
    filled(store, {"b": "y"}, domain="derma")
    assert names(collect(store), Kind.TABLE) == []
    published(store, store.table("d_cvd.g1"))
    assert names(collect(store), Kind.TABLE) == ["d_derma.g1"]


def test_a_table_that_was_never_finished_goes(store: Store) -> None:
    reindexed(store)
    (store.place.local / "tables" / "d_cvd.g2.lance" / "data").mkdir(parents=True)
    assert names(collect(store), Kind.TABLE) == ["d_cvd.g2"]


@pytest.mark.parametrize("step", ["_tables", "_versions", "_files"])
def test_killed_in_the_middle_the_next_run_finishes(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The tables of generations that went are not taken for tables that a killed run left."""

    def killed(*_arguments: object, **_words: object) -> None:
        raise KeyboardInterrupt

    for _ in range(3):
        reindexed(store)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(garbage._Collection, step, killed)
        collect(store, keep=1)
    assert rows_of_generation(store, 3) == {"cvd": 1}
    collect(store, keep=1)
    assert store.place.names("tables") == ["d_cvd.g3.lance"]
    assert store.place.names("progress") == []


# --- damage ------------------------------------------------------------------------------------------------


def test_nothing_is_removed_while_the_newest_generation_is_damaged(store: Store) -> None:
    grown(store, generations=3)
    (store.place.local / "catalog" / "gen-00000003.json").write_text("{")
    with pytest.raises(StoreCorruptError, match="gen-00000003"):
        collect(store, keep=1)
    assert len(manifests(store.place, "d_cvd.g1")) > 3


def test_nothing_is_removed_while_a_live_table_cannot_be_opened(store: Store) -> None:
    grown(store, generations=3)
    version = live_of(store).domains["cvd"].version
    (name,) = [name for number, name in manifests(store.place, "d_cvd.g1") if number == version]
    (store.place.local / name).unlink()
    with pytest.raises(StoreError, match="'cvd' cannot be opened, so nothing is removed"):
        collect(store, keep=1)
    assert store.catalog.numbers() == [1, 2, 3]


def test_an_older_kept_generation_that_cannot_be_opened_is_named_and_its_table_left_alone(
    store: Store,
) -> None:
    grown(store, generations=4)
    version = store.catalog.read(3).domains["cvd"].version
    (name,) = [name for number, name in manifests(store.place, "d_cvd.g1") if number == version]
    (store.place.local / name).unlink()
    left = manifests(store.place, "d_cvd.g1")
    report = collect(store, keep=2)
    assert "cannot be opened" in reasons(report)[f"d_cvd.g1 at [{version}]"]
    assert manifests(store.place, "d_cvd.g1") == left


def test_an_older_damaged_generation_goes_like_others_of_its_age(store: Store) -> None:
    grown(store, generations=3)
    (store.place.local / "catalog" / "gen-00000001.json").write_text("{")
    assert names(collect(store, keep=2), Kind.GENERATION) == ["1"]
    assert store.catalog.numbers() == [2, 3]


# --- what lies beside the tables ---------------------------------------------------------------------------


def test_experts_go_when_no_kept_generation_and_no_candidate_needs_them(store: Store) -> None:
    experts = store.place.local / "experts"
    wanted = {"pinned": "11" * 32, "candidate": "22" * 32, "young": "33" * 32, "unneeded": "44" * 32}
    for sha in wanted.values():
        (experts / sha).mkdir()
        (experts / sha / "expert.safetensors").write_bytes(b"weights")
        if sha != wanted["young"]:
            old(experts / sha)
    (experts / "candidates").mkdir()
    (experts / "candidates" / "cvd").write_text(wanted["candidate"])
    grown(store, generations=1)
    republished(store, live_of(store), expert=wanted["pinned"])
    report = collect(store, keep=1)
    assert names(report, Kind.EXPERT) == [wanted["unneeded"]]
    assert "a run may be about to pin it" in reasons(report)[f"expert {wanted['young']}"]
    left = {"candidates", wanted["pinned"], wanted["candidate"], wanted["young"]}
    assert {path.name for path in experts.iterdir()} == left


def test_while_the_note_of_a_candidate_is_damaged_no_expert_goes(store: Store) -> None:
    experts = store.place.local / "experts"
    (experts / "candidates").mkdir()
    (experts / "candidates" / "cvd").write_text("no sha")
    (experts / SHA).mkdir()
    old(experts / SHA)
    grown(store, generations=1)
    report = collect(store, keep=1)
    assert names(report, Kind.EXPERT) == []
    assert "candidates/cvd is damaged" in reasons(report)["experts"]


def test_routers_of_kept_generations_stay(store: Store) -> None:
    for sha in (SHA, OTHER):
        (store.place.local / "routers" / f"{sha}.safetensors").write_bytes(b"router")
    grown(store, generations=1)
    republished(store, live_of(store), router=SHA)
    republished(store, live_of(store), router=OTHER)
    assert names(collect(store, keep=1), Kind.ROUTER) == [f"{SHA}.safetensors"]
    assert store.place.names("routers") == [f"{OTHER}.safetensors"]


def indexed(store: Store) -> None:
    entry = live_of(store).domains["cvd"]
    build_index(store.view(entry), folder=store.indexes_dir, entry=entry)


def test_index_files_of_gone_contents_go(store: Store) -> None:
    pytest.importorskip("faiss")
    reindexed(store)
    indexed(store)
    gone = {Path(name).stem for name in store.place.names("indexes")}
    grown(store, generations=1)
    indexed(store)
    report = collect(store, keep=1)
    assert set(names(report, Kind.INDEX)) == gone
    left = {Path(name).stem for name in store.place.names("indexes")}
    assert len(left) == 1
    assert left.isdisjoint(gone)


def test_index_files_without_a_description_stay_for_a_day(store: Store) -> None:
    grown(store, generations=1)
    draft = store.place.local / "indexes" / "0123.faiss"
    draft.write_bytes(b"being built")
    assert names(collect(store), Kind.INDEX) == []
    assert draft.exists()
    old(draft)
    assert names(collect(store), Kind.INDEX) == ["0123"]


def test_checksums_of_gone_versions_go(store: Store) -> None:
    grown(store, generations=4)
    kept = {f"{store.catalog.read(number).domains['cvd'].sums}.json" for number in (3, 4)}
    report = collect(store, keep=2)
    assert set(store.place.names("catalog/sums")) == kept
    assert len(names(report, Kind.CHECKSUMS)) == 2


def test_progress_notes_of_gone_tables_go(store: Store) -> None:
    reindexed(store)
    store.note_progress("d_cvd.g1", 3)
    reindexed(store)
    store.note_progress("d_cvd.g2", 3)
    collect(store, keep=1)
    assert store.place.names("progress") == ["d_cvd.g2"]


def test_temporary_files_go_after_a_day(store: Store) -> None:
    grown(store, generations=1)
    folder = store.place.local
    files = [folder / "catalog" / ".gen-00000002.json.1.ab.tmp", folder / "indexes" / ".x.faiss.2.cd.tmp"]
    files += [folder / "routers" / f".{SHA}.77", folder / "tables" / "d_cvd.g1.lance" / ".tmp_manifest"]
    for file in files:
        file.write_bytes(b"half")
    (folder / "experts" / ".new-xy").mkdir()
    (folder / "experts" / ".new-xy" / "expert.safetensors").write_bytes(b"half")
    assert names(collect(store), Kind.TEMPORARY) == []
    for path in (*files, folder / "experts" / ".new-xy"):
        old(path)
    assert len(names(collect(store), Kind.TEMPORARY)) == 5
    assert not [path for path in folder.rglob(".*") if path.name != ".gitignore"]


def test_what_is_not_the_stores_is_left_alone(store: Store) -> None:
    grown(store, generations=2)
    for name in (".gitignore", "notes.txt", "experts/readme.md", "tables/other.lance", "catalog/x.damaged"):
        (store.place.local / name).write_text("mine")
        old(store.place.local / name)
    report = collect(store, keep=1)
    for name in (".gitignore", "notes.txt", "experts/readme.md", "tables/other.lance", "catalog/x.damaged"):
        assert (store.place.local / name).read_text() == "mine"
    assert reasons(report)["catalog/x.damaged"] == "was set aside as damaged"


def test_a_report_gives_plain_values(store: Store) -> None:
    grown(store, generations=2)
    said = collect(store, keep=1).to_dict()
    assert said["generations"] == (2,)
    assert said["removed"][0] == {"kind": "generation", "name": "1", "bytes": said["removed"][0]["bytes"]}


# --- in a bucket -------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    with moto_server() as server:
        use(server, monkeypatch)
        yield Store.open(f"{server.make_bucket('shelf')}/store", create=True, cache=tmp_path / "cache")


def test_in_a_bucket_it_takes_the_same_and_spares_what_was_the_newest_within_the_hour(bucket: Store) -> None:
    for sha in (SHA, OTHER):
        bucket.place.replace(f"experts/{sha}/expert.safetensors", b"weights")
    bucket.place.replace(f"routers/{SHA}.safetensors", b"router")
    reindexed(bucket)
    republished(bucket, live_of(bucket), expert=SHA, router=SHA)
    grown(bucket, generations=3)  # all of them are published as of 2026-01-01 00:00 UTC
    then = 1_767_225_600.0
    spared = collect(bucket, keep=1, clock=lambda: then + 1_800)
    assert spared.generations == (1, 2, 3, 4, 5)
    report = collect(bucket, keep=1)
    assert report.generations == (5,) == tuple(bucket.catalog.numbers())
    assert rows_of_generation(bucket, 5) == {"cvd": 3}
    assert bucket.place.names("tables") == ["d_cvd.g2.lance"]
    assert len(manifests(bucket.place, "d_cvd.g2")) == 1
    assert names(report, Kind.EXPERT) == [SHA], "when the other one was written is not known there"
    assert bucket.place.names("experts") == [OTHER]
    assert bucket.place.names("routers") == []
    assert report.bytes > 0
    assert collect(bucket, keep=1).removed == ()


# --- rules -------------------------------------------------------------------------------------------------


def test_unverified_files_are_deleted_nowhere() -> None:
    """Beside a writer that would destroy the newest version of its table."""
    for path in Path(moe_retrieval.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            words = {node.arg} if isinstance(node, ast.keyword) else set()
            words |= {node.value} if isinstance(node, ast.Constant) else set()
            assert "delete_unverified" not in words, path
