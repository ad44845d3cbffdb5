"""What is evaluated: sets of pairs and collections on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.corpus.pairs import Pair, Split, read_pairs
from moe_retrieval.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class PairSet:
    """Pairs and the name they go by in a report, with the split where there is one."""

    name: str
    pairs: tuple[Pair, ...]


def read_pair_set(path: Path, *, split: Split | None = None) -> PairSet:
    """The pairs of one split: of a folder with a file for each split, or of a file.

    Without `split` it is test; a file whose pairs name no split, or all of them the same, is taken whole.

    Raises:
        UsageError: there is no such file or split, or the file is damaged.
    """
    if not path.is_dir():
        return _of_file(path, split=split)
    wanted = split or Split.TEST
    file = path / f"{wanted}.jsonl"
    if not file.is_file() and split is None and (path / "pairs.jsonl").is_file():
        return _of_file(path / "pairs.jsonl", split=None)
    if not file.is_file():
        there = sorted(one.name for one in path.glob("*.jsonl"))
        raise UsageError(
            f"{path} has no {file.name}", hint=f"--split, or a file: {', '.join(there) or 'it has none'}"
        )
    return PairSet(f"{path.resolve().name} ({wanted})", tuple(read_pairs(file)))


def _of_file(path: Path, *, split: Split | None) -> PairSet:
    pairs = read_pairs(path)
    there = {pair.split for pair in pairs}
    name = path.resolve().parent.name if path.name == "pairs.jsonl" else path.stem
    if split is None and len(there) == 1:
        only = there.pop()
        return PairSet(f"{name} ({only})" if only else name, tuple(pairs))
    wanted = split or Split.TEST
    chosen = tuple(pair for pair in pairs if pair.split == wanted)
    if not chosen:
        raise UsageError(
            f"{path} holds no pairs of the split {wanted}", hint="leave out --split, or give another"
        )
    return PairSet(f"{name} ({wanted})", chosen)
