"""A store on a network file system is told from one on a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_retrieval.storage.places.filesystem import kind_of, network_warning

MOUNTS = r"""22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
40 22 0:40 / /mnt/shared\040files rw,relatime shared:1 - nfs4 server:/export rw,vers=4.2
41 22 0:41 / /mnt/remote rw - fuse.sshfs user@host: rw
42 41 8:2 / /mnt/remote/disk rw - xfs /dev/sdb1 rw
43 22 0:43 / /mnt/twice rw - ext4 /dev/sdc1 rw
44 43 0:44 / /mnt/twice rw - cifs //server/share rw
a broken line
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/store", "ext4"),
        ("/mnt/shared files/a/store", "nfs4"),
        ("/mnt/remote/store", "fuse.sshfs"),
        ("/mnt/remote/disk/store", "xfs"),
        ("/mnt/twice/store", "cifs"),
    ],
)
def test_the_nearest_mount_says_the_type(mounts: Path, folder: str, kind: str) -> None:
    assert kind_of(Path(folder), mounts=mounts) == kind


def test_only_network_file_systems_are_warned_of(mounts: Path) -> None:
    assert network_warning(Path("/home/store"), mounts=mounts) == ""
    assert "network file system (nfs4)" in network_warning(Path("/mnt/shared files/s"), mounts=mounts)


def test_where_the_system_does_not_tell_nothing_is_said(tmp_path: Path) -> None:
    assert network_warning(tmp_path, mounts=tmp_path / "none") == ""


def test_this_machine_tells_of_its_own_disk(tmp_path: Path) -> None:
    if not Path("/proc/self/mountinfo").exists():
        pytest.skip("no /proc here")
    assert kind_of(tmp_path) != ""
