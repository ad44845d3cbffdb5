"""One writer at a time in a bucket: who is refused, who may take over, and how a loser learns of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from moe_retrieval.errors import StoreBusyError, StoreConflictError, StoreError
from moe_retrieval.storage.places.aws_environment import aws_environment
from moe_retrieval.storage.places.object_lease import LOCK, Note, ObjectLease, _parse
from moe_retrieval.storage.places.objects import Objects
from moe_retrieval.storage.places.processes import is_gone, this_machine, this_process
from tests.object_server import ObjectServer, careless_server, moto_server, prefix_for, use

if TYPE_CHECKING:
    from collections.abc import Iterator


needs_proc = pytest.mark.skipif(not this_machine(), reason="this system does not tell its processes apart")


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with moto_server() as running:
        running.make_bucket("shelf")
        yield running


@pytest.fixture
def objects(server: ObjectServer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Objects:
    use(server, monkeypatch)
    prefix = prefix_for(request)
    return Objects("shelf", prefix, name=f"s3://shelf/{prefix}", environment=aws_environment())


def elsewhere(*, seconds: float = 60.0) -> Note:
    """A lease of a process of another machine."""
    return Note(7, "elsewhere", "2026-01-01T00:00:00+00:00", "token", seconds, machine="another", process="1")


def note_in(objects: Objects) -> Note:
    return _parse(objects.load(LOCK))


def test_a_held_lease_names_its_holder(objects: Objects) -> None:
    with (
        ObjectLease(objects).hold(),
        pytest.raises(StoreBusyError, match=f"process {os.getpid()} on .*, since 2.*--wait SECONDS"),
        ObjectLease(objects).hold(),
    ):
        pass


def test_a_lease_is_free_again_after_the_block_even_if_it_failed(objects: Objects) -> None:
    with pytest.raises(KeyError), ObjectLease(objects).hold():
        raise KeyError
    assert note_in(objects).released
    with ObjectLease(objects).hold():
        assert not note_in(objects).released


def test_who_waits_gets_it_when_the_other_is_done(objects: Objects) -> None:
    other = ObjectLease(objects)
    held, done = threading.Event(), threading.Event()

    def hold_for_a_while() -> None:
        with other.hold():
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold_for_a_while)
    thread.start()
    assert held.wait(30)
    threading.Timer(0.3, done.set).start()
    with ObjectLease(objects).hold(wait=30):
        thread.join()
        assert done.is_set()


def test_of_six_that_take_a_free_lease_at_once_one_gets_it(objects: Objects) -> None:
    with ObjectLease(objects).hold():
        pass
    start, over = threading.Barrier(6), threading.Barrier(6)
    outcomes: list[str] = []

    def take() -> None:
        start.wait()
        try:
            with ObjectLease(objects).hold():
                outcomes.append("held")
                over.wait(30)
        except StoreBusyError:
            outcomes.append("refused")
            over.wait(30)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", *["refused"] * 5]


def test_a_lease_that_nobody_renews_ends_by_the_clock_of_the_server(objects: Objects) -> None:
    objects.put(LOCK, elsewhere(seconds=0.5).to_bytes())
    with (
        pytest.raises(StoreBusyError, match="process 7 on elsewhere, since 2026"),
        ObjectLease(objects).hold(),
    ):
        pass
    begun = time.monotonic()
    with ObjectLease(objects).hold(wait=30):
        assert note_in(objects).pid == os.getpid()
    assert 1 < time.monotonic() - begun < 15
    assert objects.children("") == [LOCK]  # and nothing is left of asking for the time


def test_a_held_lease_is_renewed(objects: Objects) -> None:
    with ObjectLease(objects, seconds=0.5).hold():
        before = note_in(objects)
        time.sleep(0.6)
        after = note_in(objects)
    assert after.beat > before.beat
    assert after == replace(before, beat=after.beat)


@needs_proc
def test_the_lease_of_a_killed_process_of_this_machine_is_free_at_once(objects: Objects) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = _started(process.pid)
        note = replace(elsewhere(), machine=this_machine(), pid=process.pid, process=started)
        objects.put(LOCK, note.to_bytes())
        with pytest.raises(StoreBusyError), ObjectLease(objects).hold():
            pass
        process.kill()
    with ObjectLease(objects).hold():
        assert note_in(objects).pid == os.getpid()


@needs_proc
def test_a_process_is_gone_only_if_it_was_one_of_this_machine() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert is_gone(machine=this_machine(), pid=ended.pid, process="1")
    assert is_gone(machine=this_machine(), pid=os.getpid(), process="another start")
    assert not is_gone(machine=this_machine(), pid=os.getpid(), process=this_process())
    assert not is_gone(machine="another", pid=ended.pid, process="1")
    assert not is_gone(machine="", pid=ended.pid, process="")


def test_who_lost_the_lease_is_told_to_whom_at_the_next_write(objects: Objects) -> None:
    lease = ObjectLease(objects, seconds=0.5)
    with lease.hold():
        lease.check()
        objects.put(LOCK, elsewhere().to_bytes())
        time.sleep(0.5)
        with pytest.raises(StoreConflictError, match="taken over by process 7 on elsewhere"):
            lease.check()
    assert note_in(objects) == elsewhere()  # what another holds is not given back


def test_a_lease_whose_lock_was_deleted_is_lost(objects: Objects) -> None:
    lease = ObjectLease(objects, seconds=0.5)
    with lease.hold():
        objects.remove([LOCK])
        time.sleep(0.5)
        with pytest.raises(StoreConflictError, match="deleted its lock"):
            lease.check()


def test_who_cannot_renew_stops_writing_before_another_may_begin(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = ObjectLease(objects, seconds=0.8)
    with lease.hold():

        def out_of_reach(*_words: object, **_more: object) -> None:
            raise StoreError("out of reach")

        monkeypatch.setattr(objects, "update", out_of_reach)
        lease.check()
        time.sleep(0.8)
        with pytest.raises(StoreConflictError, match="could not be renewed for"):
            lease.check()


def test_who_slept_goes_on_if_nobody_took_the_lease_meanwhile(objects: Objects) -> None:
    lease = ObjectLease(objects)
    with lease.hold():
        assert lease._held is not None
        lease._held.renewed -= 3_600
        before = note_in(objects)
        lease.check()
        assert note_in(objects).beat == before.beat + 1
        lease._held.renewed -= 3_600
        objects.put(LOCK, elsewhere().to_bytes())
        with pytest.raises(StoreConflictError, match="taken over by process 7 on elsewhere"):
            lease.check()


def test_a_renewal_whose_answer_got_lost_is_recognised(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, update, answers = ObjectLease(objects, seconds=0.5), objects.update, iter([False])

    def answering_from_the_second_on(name: str, data: bytes, *, tag: str) -> str | None:
        given = update(name, data, tag=tag)
        if not next(answers, True):
            raise StoreError("the answer got lost")
        return given

    with lease.hold():
        monkeypatch.setattr(objects, "update", answering_from_the_second_on)
        time.sleep(0.7)
        lease.check()
        assert note_in(objects).beat > 1
    assert note_in(objects).released


def test_an_illegible_lock_is_somebodys(objects: Objects) -> None:
    objects.put(LOCK, b"{half")
    with pytest.raises(StoreBusyError, match="signed illegibly"), ObjectLease(objects).hold():
        pass


def test_a_server_that_ignores_conditions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with careless_server() as careless:
        use(careless, monkeypatch)
        objects = Objects("shelf", "x", name="s3://shelf/x", environment=aws_environment())
        with (
            pytest.raises(StoreError, match="ignores If-None-Match or If-Match"),
            ObjectLease(objects).hold(),
        ):
            pass


def _started(pid: int) -> str:
    from moe_retrieval.storage.places.processes import _state

    return _state(pid)[1]
