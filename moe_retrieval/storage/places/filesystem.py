"""Whether a store lies on a network file system, where locks and atomic names may not mean what they say."""

from __future__ import annotations

import re
from pathlib import Path

NETWORK = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs"),
    *("fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb3"),
    *("smbfs", "virtiofs"),
}
"""Types, as the kernel names them, whose files another machine may change at the same time."""

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def kind_of(folder: Path, *, mounts: Path = _MOUNTS) -> str:
    """The type of the file system that a folder lies on, or would; empty where the system does not tell."""
    try:
        listed = mounts.read_text(encoding="utf8", errors="surrogateescape")
    except OSError:
        return ""
    found = {point: kind for point, kind in map(_parsed, listed.splitlines()) if point is not None}
    place = folder.resolve()
    return next((found[one] for one in (place, *place.parents) if one in found), "")


def network_warning(folder: Path, *, mounts: Path = _MOUNTS) -> str:
    """What to know of a store in this folder, in a sentence; empty for a local file system."""
    kind = kind_of(folder, mounts=mounts)
    if kind not in NETWORK:
        return ""
    return (
        f"the store {folder} lies on a network file system ({kind}): its locks may not hold between "
        "machines, and a power cut may cost what was published"
    )


NEXT_STEP = "write from one machine only, or keep the store on a local disk or in a bucket (--store s3://...)"


def _parsed(line: str) -> tuple[Path | None, str]:
    """Mount point and type of one line; later lines hide earlier ones of the same point (proc(5))."""
    fields, _, rest = line.partition(" - ")
    words, kind = fields.split(" "), rest.partition(" ")[0]
    if len(words) < 5 or not kind:
        return None, ""
    return Path(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), words[4])), kind
