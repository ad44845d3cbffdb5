"""Whichever write of `moeret index` or `moeret reindex` fails, once or from then on: the run ends with a
sentence, the store opens, what was published is there, and the same command completes the work.

The long form fails every write in turn, with ENOSPC and EIO (an hour on two cores):
    pytest -m slow tests/faults
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.scene import (
    Scene,
    answered,
    assert_answers,
    assert_nothing_lost,
    assert_same,
    documents,
    live,
    run_again,
)

if TYPE_CHECKING:
    from tests.faults.faults import Ending, FailingProcess

VERBS = ("index", "reindex", "move")
EVERY = 97
"""Of how many writes the short form fails one."""


def test_the_writes_of_every_library_are_counted(
    failing: FailingProcess, scene: Scene, tmp_path: Path
) -> None:
    store = scene.copy("counted")
    log = tmp_path / "log"
    done = failing.run(scene.command("index", store), below=store, log=log)
    assert done.code == 0, done.err
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert done.calls == len(lines) > 100
    counted = {(what, folder_of(Path(place).relative_to(store))) for what, place in lines}
    lance = {"data", "_deletions", "_indices", "_transactions", "_versions"}
    assert counted >= {(what, folder) for what in ("create", "write") for folder in lance}
    assert counted >= {("rename", "data"), ("link", "_versions")}
    assert counted >= {(what, "indexes") for what in ("write", "close", "sync", "rename")}
    assert counted >= {("write", "catalog"), ("link", "catalog"), ("rename", "routers"), ("write", "lock")}


def folder_of(place: Path) -> str:
    """Which kind of file it is: the folder it lies in, of a table or of the store."""
    return place.parts[2 if place.parts[0] == "tables" and len(place.parts) > 2 else 0] if place.parts else ""


def outcome(verb: str, done: Ending, scene: Scene, store: Path) -> None:
    """What a failed write came to: all the work done, or a sentence and what was published before."""
    found = documents(store)
    assert "this should not have happened" not in done.err, done.err
    assert "Traceback" not in done.err, done.err
    if done.code == 0:
        assert_same(found, scene.after[verb])
        return
    assert done.code in (1, 4), done.err
    assert "moeret: error: " in done.err
    assert "next: " in done.err
    assert_nothing_lost(found, scene.before, scene.after[verb])


def fail(
    verb: str,
    which: int,
    code: int,
    failing: FailingProcess,
    scene: Scene,
    *,
    for_good: bool,
    publish: float = 30.0,
) -> bool:
    """Make one write of a run fail; whether the run came so far. Then carry the run to its end.

    `publish`: seconds between two generations of the run.
    """
    store = scene.copy(f"store-{verb}-{which}-{code}-{for_good}")
    number = live(store).number
    done = failing.run(
        scene.command(verb, store),
        below=store,
        which=which,
        code=code,
        for_good=for_good,
        settings={"MOERET_PUBLISH_SECONDS": str(publish)},
    )
    try:
        _judge(verb, done, scene, store, number)
    except AssertionError as error:
        error.add_note(f"write {which} of {verb} failed with {os.strerror(code)}: {done.failed}\n{done.err}")
        raise
    shutil.rmtree(store)
    return bool(done.failed)


def _judge(verb: str, done: Ending, scene: Scene, store: Path, number: int) -> None:
    assert live(store).number >= number
    outcome(verb, done, scene, store)
    assert set(answered(store)) == set(scene.answers[verb])
    again = run_again(scene.command(verb, store))
    assert again.code == 0, again.err
    assert_same(documents(store), scene.after[verb])
    assert_answers(answered(store), scene.answers[verb])


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for-good"])
@pytest.mark.parametrize("verb", ["index", "reindex"])
def test_a_failing_write_loses_nothing_and_the_run_can_be_gone_on_with(
    failing: FailingProcess, scene: Scene, verb: str, *, for_good: bool
) -> None:
    code = errno.ENOSPC if for_good else errno.EIO
    which = 5 + 17 * for_good
    while fail(verb, which, code, failing, scene, for_good=for_good):
        which += EVERY
    assert which > EVERY


@pytest.mark.slow
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for-good"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("verb", VERBS)
def test_no_failing_write_at_all_loses_anything(
    failing: FailingProcess, scene: Scene, verb: str, code: int, *, for_good: bool
) -> None:
    which = 1
    while fail(verb, which, code, failing, scene, for_good=for_good):
        which += 1
    assert which > 100


@pytest.mark.slow
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for-good"])
def test_what_a_run_has_published_before_a_write_fails_is_kept(
    failing: FailingProcess, scene: Scene, *, for_good: bool
) -> None:
    """Every document is published by itself; every fifth write fails in turn."""
    which = 1
    while fail("index", which, errno.ENOSPC, failing, scene, for_good=for_good, publish=1e-6):
        which += 5
    assert which > 300


@pytest.mark.parametrize("verb", ["index", "reindex"])
def test_a_full_disk_is_called_so(failing: FailingProcess, scene: Scene, verb: str) -> None:
    for which in (3, 60, 200):
        store = scene.copy(f"full-{verb}-{which}")
        command = scene.command(verb, store)
        done = failing.run(command, below=store, which=which, code=errno.ENOSPC, for_good=True)
        assert done.code == 1
        assert "the disk is full" in done.err, (done.failed, done.err)
        assert "next: free some space and run it again" in done.err
