"""A disk that is really full: a small file system in memory, filled to the brim, then made larger."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.faults.scene import (
    answered,
    assert_answers,
    assert_nothing_lost,
    assert_same,
    documents,
    run_again,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.scene import Scene

ENOUGH = 64 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which only root can make."""
    place = tmp_path / "disk"
    place.mkdir()
    if not shutil.which("mount") or os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ENOUGH}k", "tmpfs", str(place)], check=False
    )
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    yield place.resolve()
    subprocess.run(["umount", str(place)], check=True)


def resize(disk: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(disk)], check=True)


def used(disk: Path) -> int:
    """Kilobytes that are taken."""
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize // 1024


@pytest.mark.parametrize("room", [4, 60, 150], ids="{}-kilobytes-left".format)
@pytest.mark.parametrize("verb", ["index", "reindex"])
def test_a_full_disk_is_said_and_when_there_is_room_the_same_command_goes_on(
    disk: Path, scene: Scene, verb: str, room: int
) -> None:
    store = shutil.copytree(scene.base, disk / "store")
    resize(disk, used(disk) + room)
    command = scene.command(verb, store)
    full = run_again(command)
    assert full.code == 1, full.err
    assert "the disk is full" in full.err
    assert "next: free some space and run it again" in full.err
    assert_nothing_lost(documents(store), scene.before, scene.after[verb])
    resize(disk, ENOUGH)
    done = run_again(command)
    assert done.code == 0, done.err
    assert_same(documents(store), scene.after[verb])
    assert_answers(answered(store), scene.answers[verb])
