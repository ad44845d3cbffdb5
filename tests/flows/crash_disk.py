"""A disk whose power can be cut, made of loop devices; for root on Linux.

A store's file system lies on a loop device whose file, the disk, lies on a second file system: the drive's
cache. What the first file system has not written is in no file at all. What it has written and not flushed
is in the page cache of the second, and its flushes are that one's fsyncs. The second file system lies on a
loop device too, whose file, the drive, is what survives: it is copied while a third file system, on which it
lies, is frozen, so the copy is of one moment. So a cut takes all that was not flushed, as the loss of a
drive's volatile cache does; blocks that reach the platter unasked are those that a file system wrote back.
"""

from __future__ import annotations

import gc
import shutil
import subprocess
import time
from pathlib import Path

DRIVE, DISK = "160M", "96M"
MOUNTS = ("", "commit=1", "data=writeback,commit=1", "nodelalloc,commit=1")
"""How the store's file system is mounted after one cut and the next: what a cut leaves differs much."""


class Disk:
    """`path`: where its file system is mounted while it has power."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "store-disk"
        self._case, self._cache = folder / "case", folder / "cache"
        self._copy = folder / "copy"
        for one in (self.path, self._case, self._cache):
            one.mkdir()
        self.cuts = 0

    def make(self) -> None:
        """Format all of it, and give it power.

        Raises:
            OSError, CalledProcessError: this machine or user can make no such thing.
        """
        _format(self.folder / "case.img", "480M")
        _mount(self.folder / "case.img", self._case)
        _format(self._case / "drive", DRIVE)
        _mount(self._case / "drive", self._cache)
        _run("dd", "if=/dev/zero", f"of={self._cache / 'disk'}", "bs=1M", f"count={DISK[:-1]}", "status=none")
        _format(self._cache / "disk", DISK)
        _mount(self._cache / "disk", self.path)
        self.write_back()

    def write_back(self) -> None:
        """Bring all that there is to the drive."""
        _run("sync", "--file-system", str(self.path))
        _run("sync", "--file-system", str(self._cache))

    def freeze(self) -> None:
        """Stop the drive, and copy what is on it: that is what the cut leaves."""
        _run("fsfreeze", "--freeze", str(self._case))
        shutil.copyfile(self._case / "drive", self._copy)

    def thaw(self) -> None:
        """Let what still runs come to its end: nothing of that is on the copy."""
        _run("fsfreeze", "--unfreeze", str(self._case))

    def power_up(self) -> None:
        """Go on with what the cut left."""
        self._unmount(self.path)
        self._unmount(self._cache)
        shutil.copyfile(self._copy, self._case / "drive")
        _mount(self._case / "drive", self._cache)
        self.cuts += 1
        _mount(self._cache / "disk", self.path, options=MOUNTS[self.cuts % len(MOUNTS)])

    def take_away(self) -> None:
        for one in (self.path, self._cache, self._case):
            if one.is_mount():
                self._unmount(one)

    def _unmount(self, place: Path) -> None:
        gc.collect()  # whatever of this process has a file open there
        deadline = time.monotonic() + 30
        while subprocess.run(["umount", str(place)], capture_output=True).returncode:
            assert time.monotonic() < deadline, f"{place} is in use"
            time.sleep(0.05)


def _format(file: Path, size: str) -> None:
    if not file.exists():
        _run("truncate", f"--size={size}", str(file))
    _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(file))


def _mount(file: Path, place: Path, *, options: str = "") -> None:
    _run("mount", "-o", ",".join(["loop", "noatime", *filter(None, [options])]), str(file), str(place))


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=120)
