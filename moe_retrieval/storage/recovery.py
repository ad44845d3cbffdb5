"""After a power cut: take back the unacknowledged versions of a table that did not reach the disk whole.

Lance does not fall back from a damaged newest manifest. A version the catalog records was synced before it
was acknowledged, so only later ones can be torn; they are renamed, never deleted, from the newest down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moe_retrieval.storage.durability import file_faults
from moe_retrieval.storage.engine import lance

_TOP = (1 << 64) - 1
_MARKS = {".lance": b"LANC", ".arrow": b"ARROW1"}
"""What files end with, by their suffix."""


def set_torn_versions_aside(path: Path, *, acknowledged: int) -> tuple[int, ...]:
    """Rename the manifests of torn versions above `acknowledged`; their numbers come back, newest first."""
    torn: list[int] = []
    with file_faults(f"repair table {path.stem}"):
        for version, manifest in _newest_first(path):
            if version <= acknowledged or _whole(path, version):
                break
            manifest.rename(manifest.with_name(manifest.name + ".damaged"))
            torn.append(version)
    return tuple(torn)


def newest_version(path: Path) -> int:
    """The newest version a table has a manifest of; 0 for none."""
    return next((version for version, _ in _newest_first(path)), 0)


def _newest_first(path: Path) -> list[tuple[int, Path]]:
    folder = path / "_versions"
    manifests = [one for one in folder.glob("*.manifest") if one.stem.isdigit()] if folder.is_dir() else []
    # Lance names them 2^64 - 1 - version, so that a listing begins with the newest; old tables count upwards.
    numbered = [(_TOP - int(one.stem) if len(one.stem) == 20 else int(one.stem), one) for one in manifests]
    return sorted(numbered, reverse=True)


def _whole(path: Path, version: int) -> bool:
    try:
        dataset = lance().dataset(str(path), version=version)
        files = _files(dataset, path)
        return _indexes_are_whole(dataset, path) and all(_file_is_whole(file, size) for file, size in files)
    except (RuntimeError, ValueError, OSError):
        return False


def _files(dataset: Any, path: Path) -> list[tuple[Path, int | None]]:
    """Data files with the sizes the manifest recorded, deletion and index files without."""
    files: list[tuple[Path, int | None]] = []
    for fragment in dataset.get_fragments():
        files += [(path / "data" / one.path, one.file_size_bytes) for one in fragment.data_files()]
        if removed := fragment.deletion_file():
            files.append((path / removed, None))
    for segment in (segment for index in dataset.describe_indices() for segment in index.segments):
        files += [(one, None) for one in sorted((path / "_indices" / segment.uuid).iterdir())]
    return files


def _indexes_are_whole(dataset: Any, path: Path) -> bool:
    """Whether the files of each index together have the size that the version recorded, where it did."""
    segments = [segment for index in dataset.describe_indices() for segment in index.segments]
    found = [(path / "_indices" / segment.uuid, segment.size_bytes) for segment in segments]
    return all(
        not size or size == sum(one.stat().st_size for one in inside.iterdir()) for inside, size in found
    )


def _file_is_whole(file: Path, size: int | None) -> bool:
    found = file.stat().st_size
    mark = _MARKS.get(file.suffix, b"")
    with file.open("rb") as stream:
        stream.seek(max(0, found - len(mark)))
        return found > 0 and size in (None, found) and stream.read().endswith(mark)
