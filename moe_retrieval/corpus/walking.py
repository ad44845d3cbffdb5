"""From a file or folder to the files below it, in a fixed order, with their folders' domains."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.types import Rejected, Skipped, slug

if TYPE_CHECKING:
    from collections.abc import Iterator

    Walked = Iterator["Found | Rejected | Skipped"]

STDIN_SOURCE = "stdin"
FORMATS = frozenset(
    {".txt", ".text", ".md", ".markdown", ".html", ".htm", ".xhtml", ".json", ".jsonl", ".ndjson"}
    | {".csv", ".tsv", ".parquet", ".xml", ".nxml", ".pdf", ".docx"}
)

_EVALUATION = re.compile(r"queries.*\.jsonl|qrels.*\.tsv|pairs.*\.jsonl", re.IGNORECASE)
_FILE_NAME = "the file's name is not UTF-8; rename it"
_FOLDER_NAME = "the folder's name is not UTF-8; rename it"


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read, and its domain where the folder layout gives one."""

    path: Path
    domain: str | None = None


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
        elif any(_is_domain(entry) for entry in entries_of(self._root)):
            yield from self._domains()
        else:
            yield from self._domain_folder(self._root)
        while self._links:
            waiting, self._links = self._links, []
            for link, domain in waiting:
                yield from self._link(link, domain)

    def _domains(self) -> Walked:
        for entry in entries_of(self._root):
            path = Path(entry.path)
            if (skipped := _skipped(path)) is not None:
                yield skipped
            elif _is_folder(entry):
                yield from self._domain_folder(path)
            elif entry.is_symlink() and is_folder(path):
                self._links.append((path, slug(path.name) or None))
            else:
                yield Skipped(printable(entry.path), "no domain: put it into a sub-folder, or give --domain")

    def _domain_folder(self, path: Path) -> Walked:
        domain = slug(path.name)
        if domain or _garbled(path):
            yield from self._folder(path, domain)
        else:
            yield Rejected(str(path), "the folder's name gives no domain name; rename it, or give --domain")

    def _folder(self, folder: Path, domain: str | None) -> Walked:
        if _garbled(folder) and any_document(folder):
            yield Rejected(printable(str(folder)), _FOLDER_NAME)
            return
        try:
            entries = entries_of(folder)
        except OSError as error:
            yield Rejected(printable(str(folder)), f"cannot be listed: {error.strerror}")
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
            yield Rejected(printable(str(link)), "a link to nothing")
            return
        if not target.is_relative_to(self._root):
            yield Rejected(printable(str(link)), "links out of the tree")
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
    if _garbled(found.path):
        yield Rejected(printable(source), _FOLDER_NAME if _garbled(found.path.parent) else _FILE_NAME)
    elif not is_file(found.path):
        yield Rejected(source, "not a regular file" if os.path.lexists(found.path) else "not there any more")
    else:
        yield found


def _skipped(path: Path) -> Skipped | None:
    """Why a file or folder is passed over, if it is."""
    if reason := _reason(path):
        return Skipped(printable(str(path)), reason)
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


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _is_domain(entry: os.DirEntry[str]) -> bool:
    return _is_folder(entry) and _skipped(Path(entry.path)) is None and any_document(Path(entry.path))


def any_document(folder: Path) -> bool:
    """Whether a file of a known format lies anywhere below; links count, what they lead to is seen later."""
    try:
        entries = entries_of(folder)
    except OSError:
        return True  # it may hold some: the walk will say that it cannot be listed
    shown = [entry for entry in entries if _skipped(Path(entry.path)) is None]
    folders = [Path(entry.path) for entry in shown if _is_folder(entry)]
    return len(folders) < len(shown) or any(map(any_document, folders))


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


def absolute(path: Path) -> Path:
    """The path from the root on, links as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100  keeps a link's own name, which resolve() would not


def _garbled(path: Path) -> bool:
    """Whether the name, or that of a folder above, is not UTF-8: it could not be stored, nor shown."""
    return str(path) != printable(str(path))


def printable(source: str) -> str:
    """The text with what UTF-8 cannot hold written as escapes."""
    return source.encode("utf-8", errors="backslashreplace").decode()
