"""From the paths a user gives to the files below them, in a fixed order, with their folders' domains."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.errors import NothingFoundError, UsageError, did_you_mean
from moe_retrieval.types import Rejected, Skipped, slug

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Walked = Iterator["Found | Rejected | Skipped"]

STDIN = "-"
STDIN_SOURCE = "stdin"
FORMATS = frozenset(
    {".txt", ".text", ".md", ".markdown", ".html", ".htm", ".xhtml", ".json", ".jsonl", ".ndjson"}
    | {".csv", ".tsv", ".parquet", ".xml", ".nxml", ".pdf", ".docx"}
)

_MAGIC = re.compile(r"[*?\[]")
_EVALUATION = re.compile(r"queries.*\.jsonl|qrels.*\.tsv|pairs.*\.jsonl", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read, and its domain where the folder layout gives one."""

    path: Path
    domain: str | None = None


def expand(path: str) -> list[Path]:
    """The absolute paths that one argument stands for: itself, or what a pattern matches, sorted.

    Raises:
        UsageError: there is no such path, or it is a store.
        NothingFoundError: the pattern matches nothing, or the folder holds no documents.
    """
    plain = Path(path).expanduser()
    if not os.path.lexists(plain):
        if _MAGIC.search(path) and (matches := sorted(glob.glob(str(plain), recursive=True))):  # noqa: PTH207
            return [_absolute(Path(match)) for match in matches]
        raise _missing(path, plain)
    found = _absolute(plain)
    if is_store(found):
        raise UsageError(f"{path} is a moeret store, not a corpus", hint="name a file or folder of documents")
    if is_folder(found) and not _any_document(found):
        raise NothingFoundError(f"{path} holds no documents", hint=f"formats: {' '.join(sorted(FORMATS))}")
    return [found]


def walk(path: Path, *, layout: bool, seen: set[str]) -> Walked:
    """The files at or below an expanded path. `layout`: folders are domains. `seen`: real paths so far."""
    if is_folder(path):
        yield from _Tree(resolved(path), layout=layout, seen=seen).walk()
    elif (skipped := _skipped(path)) is not None:
        yield skipped
    else:
        yield from _once(Found(resolved(path)), seen)


def is_store(folder: Path) -> bool:
    """Whether a folder is a store of moeret."""
    return is_file(folder / "store.json") and is_folder(folder / "catalog")


class _Tree:
    """One folder: files, then sub-folders, by name; links come last, so that real places go first."""

    def __init__(self, root: Path, *, layout: bool, seen: set[str]) -> None:
        self._root = root
        self._seen = seen
        self._links: list[tuple[Path, str | None]] = []
        self._layout = layout

    def walk(self) -> Walked:
        self._seen.add(str(self._root))
        if not self._layout:
            yield from self._folder(self._root, None)
        elif any(_is_domain(entry) for entry in _entries(self._root)):
            yield from self._domains()
        else:
            yield from self._domain_folder(self._root)
        while self._links:
            waiting, self._links = self._links, []
            for link, domain in waiting:
                yield from self._link(link, domain)

    def _domains(self) -> Walked:
        for entry in _entries(self._root):
            path = Path(entry.path)
            if (skipped := _skipped(path)) is not None:
                yield skipped
            elif _is_folder(entry):
                yield from self._domain_folder(path)
            elif entry.is_symlink() and is_folder(path):
                self._links.append((path, slug(path.name) or None))
            else:
                yield Skipped(entry.path, "no domain: put it into a sub-folder, or give --domain")

    def _domain_folder(self, path: Path) -> Walked:
        if domain := slug(path.name):
            yield from self._folder(path, domain)
        else:
            yield Rejected(str(path), "the folder's name gives no domain name; rename it, or give --domain")

    def _folder(self, folder: Path, domain: str | None) -> Walked:
        try:
            entries = _entries(folder)
        except OSError as error:
            yield Rejected(_printable(str(folder)), f"cannot be listed: {error.strerror}")
            return
        self._seen.add(str(folder))
        for entry in sorted(entries, key=_is_folder):  # stable: files first, both by name
            path = Path(entry.path)
            if entry.is_symlink():
                self._links.append((path, domain))
            elif (skipped := _skipped(path)) is not None:
                yield skipped
            elif _is_folder(entry):
                yield from self._folder(path, domain)
            else:
                yield from _once(Found(path, domain), self._seen)

    def _link(self, link: Path, domain: str | None) -> Walked:
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a loop of links
            yield Rejected(_printable(str(link)), "a link to nothing")
            return
        if not target.is_relative_to(self._root):
            yield Rejected(_printable(str(link)), "links out of the tree")
        elif (skipped := _skipped(link)) is not None:
            yield skipped
        elif not is_folder(target):
            yield from _once(Found(target, domain), self._seen)
        elif str(target) not in self._seen:  # a folder that was passed over, for instance a hidden one
            yield from self._folder(target, domain)


def _once(found: Found, seen: set[str]) -> Walked:
    source = str(found.path)
    if source in seen:
        return
    seen.add(source)
    if source != _printable(source):
        yield Rejected(_printable(source), "the file's name is not UTF-8; rename it")
    elif not is_file(found.path):
        yield Rejected(source, "not a regular file" if os.path.lexists(found.path) else "not there any more")
    else:
        yield found


def _skipped(path: Path) -> Skipped | None:
    """Why a file or folder is passed over, if it is."""
    if reason := _reason(path):
        return Skipped(_printable(str(path)), reason)
    return None


def _reason(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    if is_folder(path):
        if path.name.lower() == "qrels":
            return "an evaluation folder"
        return "a moeret store" if is_store(path) else ""
    if _EVALUATION.fullmatch(path.name):
        return "for evaluation or training, not a corpus"
    return "" if path.suffix.lower() in FORMATS else "not a document format"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _is_domain(entry: os.DirEntry[str]) -> bool:
    return _is_folder(entry) and _skipped(Path(entry.path)) is None and _any_document(Path(entry.path))


def _any_document(folder: Path) -> bool:
    """Whether a file of a known format lies anywhere below; links count, what they lead to is seen later."""
    try:
        entries = _entries(folder)
    except OSError:
        return True  # it may hold some: the walk will say that it cannot be listed
    shown = [entry for entry in entries if _skipped(Path(entry.path)) is None]
    folders = [Path(entry.path) for entry in shown if _is_folder(entry)]
    return len(folders) < len(shown) or any(map(_any_document, folders))


def is_folder(path: Path) -> bool:
    """Whether a folder is there; False where that may not be known."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Whether a regular file is there; False where that may not be known."""
    try:
        return path.is_file()
    except OSError:
        return False


def resolved(path: Path) -> Path:
    """The path with links resolved as far as it goes; unlike `Path.resolve`, a loop of links is no error."""
    return Path(os.path.realpath(path))


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  keeps a link's own name, which resolve() would not


def _printable(source: str) -> str:
    return source.encode("utf-8", errors="backslashreplace").decode()


def _missing(path: str, plain: Path) -> UsageError | NothingFoundError:
    if _MAGIC.search(path):
        return NothingFoundError(
            f"nothing matches {path}", hint="quote the pattern, and check the folder it begins in"
        )
    parent = _absolute(plain)
    while not is_folder(parent.parent):
        parent = parent.parent
    try:
        siblings = [entry.name for entry in _entries(parent.parent) if not entry.name.startswith(".")]
    except OSError:
        siblings = []
    return UsageError(f"there is no {path}", hint=did_you_mean(parent.name, siblings))


def static_prefix(pattern: str) -> tuple[Path, tuple[str, ...]]:
    """The folder a pattern begins in, resolved, and the components of the rest."""
    parts = _absolute(Path(pattern).expanduser()).parts
    fixed = next((place for place, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    return resolved(Path(*parts[:fixed])), parts[fixed:]


def has_magic(path: str) -> bool:
    """Whether a path is a pattern rather than the name of something that is there."""
    return _MAGIC.search(path) is not None and not os.path.lexists(Path(path).expanduser())


def expand_all(paths: Sequence[str]) -> list[Path | None]:
    """All arguments expanded; None stands for standard input."""
    return [found for path in paths for found in ([None] if path == STDIN else expand(path))]
