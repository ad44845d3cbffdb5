"""From the arguments a user gives, paths and patterns, to what is there; and what of it may be gone."""

from __future__ import annotations

import errno
import glob
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.corpus.walking import (
    FORMATS,
    absolute,
    any_document,
    entries_of,
    is_folder,
    is_store,
    printable,
    resolved,
)
from moe_retrieval.errors import NothingFoundError, UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

STDIN = "-"

_MAGIC = re.compile(r"[*?\[]")
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})  # no file can have a name that long


def expand_all(paths: Sequence[str], *, missing_ok: bool = False) -> list[Path | None]:
    """All arguments expanded; None stands for standard input."""
    return [
        found
        for path in paths
        for found in ([None] if path == STDIN else expand(path, missing_ok=missing_ok))
    ]


def expand(path: str, *, missing_ok: bool = False) -> list[Path]:
    """The absolute paths that one argument stands for: itself, or what a pattern matches, sorted.

    With `missing_ok`, a path that is gone, a folder without documents and a pattern without match stand for
    nothing.

    Raises:
        UsageError: the argument is no path, there is no such path, it is a store, or it may not be looked at.
        NothingFoundError: the pattern matches nothing, or the folder holds no documents.
    """
    plain = located(path)
    if not _there(plain, path):
        found = _matches(plain, path)
        if not found and not missing_ok:
            raise _missing(path, plain)
        return found
    place = absolute(plain)
    if is_store(place):
        raise UsageError(f"{path} is a moeret store, not a corpus", hint="name a file or folder of documents")
    if is_folder(place) and not any_document(place):
        if missing_ok:
            return []
        raise NothingFoundError(f"{path} holds no documents", hint=f"formats: {' '.join(sorted(FORMATS))}")
    return [place]


def located(path: str) -> Path:
    """The path that an argument says, with a `~` at its beginning expanded.

    Raises:
        UsageError: it is empty, not UTF-8, holds a null character, or begins in a home that is not known.
    """
    if not path:
        raise UsageError("a path is empty", hint="give a file, a folder, a pattern or -; . is this folder")
    if path != printable(path):
        raise UsageError(f"the path {printable(path)} is not UTF-8", hint="rename it")
    if "\0" in path:
        raise UsageError(f"the path {path!r} holds a null character", hint="give a file or a folder")
    try:
        return Path(path).expanduser() if path.startswith("~") else Path(path)  # Path drops the ./ of ./~name
    except RuntimeError as error:
        hint = f"write ./{path} for a name that begins with ~"
        raise UsageError(f"the home folder of {path} is not known", hint=hint) from error


def static_prefix(pattern: str) -> tuple[Path, tuple[str, ...]]:
    """The folder a pattern begins in, resolved, and the components of the rest."""
    parts = absolute(located(pattern)).parts
    fixed = next((place for place, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    return resolved(Path(*parts[:fixed])), parts[fixed:]


def has_magic(path: str) -> bool:
    """Whether a path is a pattern rather than the name of something that is there."""
    return _MAGIC.search(path) is not None and not os.path.lexists(located(path))


def _matches(plain: Path, path: str) -> list[Path]:
    """What a pattern matches, sorted. A folder that may not be listed is no folder without a match."""
    if not _MAGIC.search(path):
        return []
    matches = sorted(glob.glob(str(plain), recursive=True))  # noqa: PTH207  Path.glob knows no absolute one
    folder = static_prefix(path)[0]
    if not matches and _there(folder, path) and is_folder(folder):
        try:
            entries_of(folder)
        except OSError as error:
            raise _unseen(path, error) from error
    return [absolute(Path(match)) for match in matches]


def _there(plain: Path, path: str) -> bool:
    """Whether anything has this name. What may not be looked at is not gone: its documents must stay."""
    try:
        plain.lstat()
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise _unseen(path, error) from error
    return True


def _unseen(path: str, error: OSError) -> UsageError:
    hint = "check who may read it and the folders above"
    return UsageError(f"{path} cannot be looked at: {error.strerror}", hint=hint)


def _missing(path: str, plain: Path) -> UsageError | NothingFoundError:
    if _MAGIC.search(path):
        return NothingFoundError(
            f"nothing matches {path}", hint="quote the pattern, and check the folder it begins in"
        )
    parent = absolute(plain)
    while not is_folder(parent.parent):
        parent = parent.parent
    try:
        siblings = [entry.name for entry in entries_of(parent.parent) if not entry.name.startswith(".")]
    except OSError:
        siblings = []
    near = did_you_mean(parent.name, siblings)
    return UsageError(f"there is no {path}", hint=f"{near}; to delete its documents from the store: --prune")
