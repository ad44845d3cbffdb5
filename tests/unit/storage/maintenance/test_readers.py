"""A generation that is being read is known by a locked note, for as long as its reader lives."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from storage_builders import filled, published

from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.storage.catalog import Catalog
from moe_retrieval.storage.maintenance.gc import collect
from moe_retrieval.storage.maintenance.readers import FOLDER, Hold, Readers, hold_newest
from moe_retrieval.storage.store import Store

if TYPE_CHECKING:
    from moe_retrieval.storage.catalog import Generation

ROOT = Path(__file__).parents[4]

READER = """
    import sys
    from moe_retrieval.storage.maintenance.readers import hold_newest
    from moe_retrieval.storage.store import Store

    generation, hold = hold_newest(Store.open(sys.argv[1]).catalog)
    print(generation.number, flush=True)
    sys.stdin.read()
"""


def with_a_generation(store: Store) -> Generation:
    published(store, filled(store, {"a": "x"}))
    live = store.catalog.latest()
    assert live is not None
    return live


def notes(store: Store) -> list[str]:
    return store.place.names(FOLDER)


def reader_of(store: Store) -> subprocess.Popen[str]:
    """A process that holds the newest generation until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(READER), str(store.place.local)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    return process


def test_a_held_generation_is_known_with_what_it_needs_until_it_is_let_go(store: Store) -> None:
    live = with_a_generation(store)
    readers = Readers(store.place)
    assert readers.known
    with readers.hold(live):
        (reading,) = readers.live(clear=True)
        assert reading.generation == live.number
        assert reading.needs.versions == {"d_cvd.g1": frozenset({live.domains["cvd"].version})}
        assert reading.who.startswith(f"process {os.getpid()} on ")
    assert readers.live(clear=False) == []
    assert notes(store) == []


def test_each_reader_has_its_own_note(store: Store) -> None:
    live = with_a_generation(store)
    readers = Readers(store.place)
    one, two = readers.hold(live), readers.hold(live)
    assert len(readers.live(clear=True)) == 2
    one.close()
    one.close()
    assert len(readers.live(clear=True)) == 1
    two.close()


def test_a_hold_that_nothing_refers_to_lets_go(store: Store) -> None:
    readers = Readers(store.place)
    hold = readers.hold(with_a_generation(store))
    assert len(notes(store)) == 1
    del hold
    assert notes(store) == []


def test_the_note_of_a_killed_process_is_cleared(store: Store) -> None:
    with_a_generation(store)
    process = reader_of(store)
    readers = Readers(store.place)
    (reading,) = readers.live(clear=True)
    assert reading.who.startswith(f"process {process.pid} on ")
    process.kill()
    process.communicate()
    assert len(notes(store)) == 1
    assert readers.live(clear=False) == []
    assert len(notes(store)) == 1, "looking alone changes nothing"
    assert readers.live(clear=True) == []
    assert notes(store) == []


def test_the_note_of_a_process_that_ends_is_gone(store: Store) -> None:
    with_a_generation(store)
    process = reader_of(store)
    process.communicate("")
    assert process.returncode == 0
    assert notes(store) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_store_that_may_not_be_written_is_read_without_a_note(store: Store) -> None:
    live = with_a_generation(store)
    store.place.local.chmod(0o500)
    try:
        with Readers(store.place).hold(live) as hold:
            assert hold.note is None
    finally:
        store.place.local.chmod(0o700)


def test_where_no_note_can_be_written_reading_goes_on(store: Store) -> None:
    """A file in the place of the folder stands for any reason why the note cannot be written."""
    live = with_a_generation(store)
    (store.place.local / FOLDER).write_text("in the way")
    found = hold_newest(store.catalog)
    assert found is not None
    assert found[0] == live
    assert found[1].note is None


def test_before_the_first_generation_there_is_nothing_to_hold(store: Store) -> None:
    assert hold_newest(store.catalog) is None
    assert notes(store) == []


def test_a_reader_whose_generation_went_meanwhile_takes_the_newest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two steps of a reader `gc` runs whole: the reader looks again."""
    old = with_a_generation(store)
    register = Readers.hold

    def slow(readers: Readers, generation: Generation) -> Hold:
        if generation.number == old.number:
            published(store, filled(store, {"b": "y"}))
            collect(store, keep=1)
        return register(readers, generation)

    monkeypatch.setattr(Readers, "hold", slow)
    found = hold_newest(store.catalog)
    assert found is not None
    assert found[0].number == old.number + 1
    assert [reading.generation for reading in Readers(store.place).live(clear=True)] == [old.number + 1]


def test_the_newest_generation_is_found_though_the_one_listed_as_newest_went_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing and the reading another process publishes, and `gc` runs whole."""
    with_a_generation(store)
    listed = Catalog.numbers
    first = [True]

    def slow(catalog: Catalog) -> list[int]:
        numbers = listed(catalog)
        if first and first.pop():
            published(store, filled(store, {"b": "y"}))
            collect(store, keep=1)
        return numbers

    monkeypatch.setattr(Catalog, "numbers", slow)
    live = Catalog(store.place).latest()
    assert live is not None
    assert live.number == 2


def test_a_note_that_cannot_be_read_stops_what_relies_on_it(store: Store) -> None:
    hold = Readers(store.place).hold(with_a_generation(store))
    assert hold.note is not None
    hold.note.write_text("{")
    with pytest.raises(StoreCorruptError, match="the note of a reader"):
        Readers(store.place).live(clear=True)
    hold.close()


def test_readers_register_beside_a_collector_without_losing_what_they_read(store: Store) -> None:
    """Threads take and read the newest generation while generations are published and collected."""
    table = filled(store, {"a": "x"})
    published(store, table)
    done, failures, reads = threading.Event(), [], []

    def read() -> None:
        opened = Store.open(store.place.local)
        while not done.is_set():
            found = hold_newest(opened.catalog)
            assert found is not None
            generation, hold = found
            try:
                with hold:
                    for _ in range(3):
                        reads.append(opened.view(generation.domains["cvd"]).key_vh()[0].size)
            except StoreCorruptError as error:
                failures.append(error.message)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(12):
        table = filled(store, {"a": "x", f"b{number}": "y"})
        published(store, table)
        collect(store, keep=1)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(reads) > 12
    assert collect(store, keep=1).generations == (13,)
