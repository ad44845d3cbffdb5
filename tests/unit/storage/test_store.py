"""A store opens, refuses what is not one, and keeps each domain's tables apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from storage_builders import DIM, batch_of, filled, published, rows_of

from moe_retrieval.errors import (
    ForeignTableError,
    NothingFoundError,
    StoreBusyError,
    StoreCorruptError,
    StoreVersionError,
    UsageError,
)
from moe_retrieval.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moe_retrieval.storage.tables.table import Table


def names(tables: Mapping[str, Table | None]) -> dict[str, str]:
    return {domain: table.name for domain, table in tables.items() if table is not None}


def space_one(domain: str) -> str:
    """The fingerprint every table of these tests was written with."""
    return "space-one"


def test_a_new_store_is_private_and_keeps_its_secret(tmp_path: Path) -> None:
    made = Store.open(tmp_path / "deep" / "store", create=True)
    assert made.path.stat().st_mode & 0o777 == 0o700
    assert (made.path / "secret").stat().st_mode & 0o777 == 0o600
    assert len(made.secret) == 32
    assert Store.open(made.path, create=True).secret == made.secret
    assert Store.open(str(made.path)).secret == made.secret


def test_a_missing_store_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NothingFoundError, match="moeret index PATH --store"):
        Store.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(NothingFoundError):
        Store.open(tmp_path)


@pytest.mark.parametrize("create", [True, False])
def test_a_folder_of_other_things_is_not_taken_for_a_store(tmp_path: Path, create: bool) -> None:
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(UsageError, match="is not empty and is no store"):
        Store.open(tmp_path, create=create)
    with pytest.raises(UsageError, match="is a file"):
        Store.open(tmp_path / "thesis.docx", create=create)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_store_whose_creation_was_cut_short_is_finished(tmp_path: Path) -> None:
    made = Store.open(tmp_path / "store", create=True)
    (made.path / "store.json").unlink()
    (made.path / ".store.json.1.ab.tmp").write_text("{")
    assert Store.open(made.path, create=True).secret == made.secret


def test_a_damaged_store_says_what_is_damaged(store: Store) -> None:
    table = filled(store, {"a": "x"})
    published(store, table)
    marker = store.path / "store.json"
    good = marker.read_bytes()
    marker.write_text('{"format": ')
    with pytest.raises(StoreCorruptError, match=r"store\.json is damaged"):
        Store.open(store.path)
    marker.unlink()
    with pytest.raises(StoreCorruptError, match=r"store\.json is missing"):
        Store.open(store.path, create=True)
    marker.write_bytes(good)
    (store.path / "secret").write_bytes(b"short")
    with pytest.raises(StoreCorruptError, match="secret is missing or damaged"):
        Store.open(store.path)
    (store.path / "secret").unlink()
    assert Store.open(store.path, create=True).catalog.latest() is not None


def test_a_store_of_a_newer_format_is_refused(store: Store) -> None:
    marker = store.path / "store.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"format": 99}))
    with pytest.raises(StoreVersionError, match="format 99"):
        Store.open(store.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become another user")
def test_a_store_one_may_not_read_or_write_is_refused_in_words(tmp_path: Path) -> None:
    made = Store.open(tmp_path / "store", create=True)
    program = (
        "import os, sys; from pathlib import Path\n"
        "from moe_retrieval.storage.store import Store\n"
        "from moe_retrieval.errors import StoreReadOnlyError\n"
        "os.seteuid(65534)\n"
        "for path in sys.argv[1:]:\n"
        "    try: Store.open(path, create=True)\n"
        "    except StoreReadOnlyError as error: print('refused', error.hint)\n"
    )
    command = [sys.executable, "-c", program, str(made.path), "/moeret-nobody-may-write-here"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("refused check who owns") == 2


def test_the_lease_is_held_once(store: Store) -> None:
    with store.lease(), pytest.raises(StoreBusyError), Store.open(store.path).lease():
        pass


def test_tables_of_a_domain_are_numbered_and_no_number_is_used_twice(store: Store) -> None:
    first = filled(store, {"a": "x"})
    published(store, first)
    second = store.create_table("cvd", dim=DIM, fingerprint="f")
    assert (first.name, second.name) == ("d_cvd.g1", "d_cvd.g2")
    assert store.create_table("cvd-2", dim=DIM, fingerprint="f").name == "d_cvd-2.g1"


def test_a_domain_that_is_no_slug_names_no_table(store: Store) -> None:
    for name in ("../x", "A b", ""):
        with pytest.raises(UsageError):
            store.create_table(name, dim=DIM, fingerprint="f")


def test_a_view_of_a_table_written_by_another_encoder_is_refused(store: Store) -> None:
    from dataclasses import replace

    entry = published(store, filled(store, {"a": "x"}))
    with pytest.raises(ForeignTableError, match="space-one"):
        store.view(replace(entry, fingerprint="another"))


def test_a_missing_table_or_version_or_row_is_corruption_without_engine_paths(store: Store) -> None:
    from dataclasses import replace

    entry = published(store, filled(store, {"a": "x"}))
    for broken in (replace(entry, version=99), replace(entry, table="d_cvd.g9"), replace(entry, rows=7)):
        with pytest.raises(StoreCorruptError) as caught:
            store.view(broken)
        assert ".rs" not in str(caught.value)
        assert caught.value.hint
    with pytest.raises(StoreCorruptError):
        store.table("d_cvd.g9")


def test_what_a_killed_first_run_wrote_can_be_gone_on_with(store: Store) -> None:
    assert store.unpublished("cvd") is None
    left = filled(store, {"a": "x"})
    found = store.unpublished("cvd")
    assert found is not None
    assert (found.name, found.rows) == (left.name, 1)
    assert names(store.leftovers(space_one)) == {"cvd": left.name}
    assert store.unpublished("cvd", fingerprint="another") is None
    assert store.leftovers(lambda domain: f"another for {domain}") == {}
    published(store, left)
    assert store.unpublished("cvd") is None
    assert store.leftovers(space_one) == {}


def test_a_table_says_which_generation_it_was_made_after(store: Store) -> None:
    first = filled(store, {"a": "x"})
    published(store, first)
    second = filled(store, {"a": "y"})
    assert [store.table(one.name).after for one in (first, second)] == [0, 1]
    assert store.unpublished("cvd", after=0) is None
    found = store.unpublished("cvd", after=1)
    assert found is not None
    assert found.name == second.name


def test_a_domain_that_was_removed_does_not_come_back(store: Store) -> None:
    published(store, filled(store, {"a": "x"}))
    published(store, filled(store, {"b": "y"}, domain="copd"), domain="copd")
    assert store.leftovers(space_one) == {}
    assert store.unpublished("cvd") is None


def test_of_the_newest_generation_on_only_new_domains_are_gone_on_with(store: Store) -> None:
    filled(store, {"a": "x"}, domain="abandoned")
    published(store, filled(store, {"b": "y"}))
    filled(store, {"b": "z"})
    fresh = filled(store, {"c": "z"}, domain="copd")
    assert names(store.leftovers(space_one)) == {"copd": fresh.name}


def test_leftovers_are_found_without_reading_the_history(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in "xyz":
        published(store, filled(store, {"a": text}))
    left = filled(store, {"b": "y"}, domain="copd")
    read: list[int] = []
    real = type(store.catalog).read
    monkeypatch.setattr(
        type(store.catalog), "read", lambda self, number: (read.append(number), real(self, number))[1]
    )
    assert names(store.leftovers(space_one)) == {"copd": left.name}
    assert read == []


def test_what_a_killed_reindex_left_is_found_generations_later(store: Store) -> None:
    live = filled(store, {"a": "x"})
    published(store, live)
    left = filled(store, {"a": "y"})
    published(store, live)
    published(store, live)
    found = store.unpublished("cvd", fingerprint="space-one")
    assert found is not None
    assert found.name == left.name


def test_a_damaged_old_generation_is_passed_over_and_a_damaged_newest_one_is_not(store: Store) -> None:
    live = filled(store, {"a": "x"})
    published(store, live)
    left = filled(store, {"a": "y"})
    published(store, filled(store, {"a": "z"}))
    for _ in range(2):
        published(store, live)
    (store.path / "catalog" / "gen-00000003.json").write_text("{")
    found = store.unpublished("cvd")
    assert found is not None
    assert found.name == left.name
    (store.path / "catalog" / "gen-00000004.json").write_text("{")
    with pytest.raises(StoreCorruptError, match="gen-00000004"):
        store.unpublished("cvd")


def test_a_table_an_older_generation_knows_is_not_taken_for_unpublished(store: Store) -> None:
    old = filled(store, {"a": "x"})
    published(store, old)
    published(store, filled(store, {"a": "y"}))
    assert store.unpublished("cvd") is None


def test_a_table_killed_while_it_was_created_is_passed_over(store: Store) -> None:
    (store.path / "tables" / "d_cvd.g1.lance" / "_versions").mkdir(parents=True)
    assert store.unpublished("cvd") is None
    assert store.create_table("cvd", dim=DIM, fingerprint="f").name == "d_cvd.g2"


def test_a_store_can_be_moved(store: Store, tmp_path: Path) -> None:
    entry = published(store, filled(store, {"a": "x"}))
    store.path.rename(tmp_path / "moved")
    assert Store.open(tmp_path / "moved").view(entry).rows == 1


def test_a_table_is_written_durably_and_read_by_a_new_process(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True, durable=True)
    table = filled(store, {"a": "aspirin"})
    table.write(batch_of(rows_of("b", ["asthma"]), seed=1))
    published(store, table)
    program = (
        "import sys; from moe_retrieval.storage.store import Store\n"
        "store = Store.open(sys.argv[1]); live = store.catalog.latest()\n"
        "view = store.view(live.domains['cvd'])\n"
        "print(view.rows, len(view.search_text('asthma', k=3).keys), 'lancedb' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(store.path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2", "1", "False"]
