"""Which stored sources lie under the paths of a run: a document there that was not read has vanished."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from moe_retrieval.corpus.arguments import STDIN, has_magic, located, static_prefix
from moe_retrieval.corpus.walking import resolved

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Scope:
    """`source in scope`: whether a stored source, an absolute POSIX path, lies under the paths."""

    roots: frozenset[str]
    patterns: tuple[tuple[str, ...], ...] = ()  # the components of each

    def __contains__(self, source: object) -> bool:
        if not isinstance(source, str):
            return False
        if source in self.roots:
            return True
        path = PurePosixPath(source)
        if not path.is_absolute():
            return False
        return any(str(folder) in self.roots for folder in path.parents) or any(
            _matches(path.parts, pattern) for pattern in self.patterns
        )


def scope_of(paths: Sequence[str]) -> Scope:
    """The scope of the paths that `read_corpus` is given; the files need not be there any more.

    Standard input has none: a pipe is not the whole of what was ever piped, so none of that has vanished.

    Raises:
        UsageError: an argument cannot be a path.
    """
    roots: set[str] = set()
    patterns: list[tuple[str, ...]] = []
    for path in paths:
        if path == STDIN:
            continue
        if has_magic(path):
            folder, rest = static_prefix(path)
            patterns.append((*(_literal(part) for part in folder.parts), *rest))
        else:
            roots.add(resolved(located(path)).as_posix())
    return Scope(frozenset(roots), tuple(patterns))


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path is what the pattern matches, or lies below it."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(parts[at:], pattern[1:]) for at in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _literal(part: str) -> str:
    return part.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
