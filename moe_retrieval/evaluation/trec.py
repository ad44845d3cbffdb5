"""Rankings in the format of TREC: query, Q0, document, rank, score, tag."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from moe_retrieval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_LINE = "a line is: query-id Q0 document-id rank score tag"


def read_run(path: Path) -> dict[str, dict[str, float]]:
    """Query id -> document id -> score. As trec_eval does, the rank is passed over: scores decide.

    Raises:
        UsageError: the file cannot be read, holds no line, or a line is none of a run; the message names it.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}", hint="give a run in the format of TREC"
        ) from error
    run: dict[str, dict[str, float]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        query, document, score = _fields(line, place=place)
        ranked = run.setdefault(query, {})
        if document in ranked:
            raise UsageError(f"{place}: {document} stands twice for query {query}", hint="keep one of them")
        ranked[document] = score
    if not run:
        raise UsageError(f"{path} holds no ranking", hint=_LINE)
    return run


def _fields(line: str, *, place: str) -> tuple[str, str, float]:
    parts = line.split()
    if len(parts) != 6:
        raise UsageError(f"{place} has {len(parts)} fields, not 6", hint=_LINE)
    try:
        score = float(parts[4])
    except ValueError as error:
        raise UsageError(f"{place}: the score {parts[4]!r} is no number", hint=_LINE) from error
    if not math.isfinite(score):
        raise UsageError(f"{place}: the score {parts[4]!r} is not finite", hint=_LINE)
    return parts[0], parts[2], score


def write_run(path: Path, run: Mapping[str, Mapping[str, float]], *, tag: str) -> None:
    """Write a run, each query's documents from the best down, ties by document id as trec_eval orders them.

    Raises:
        UsageError: an id or the tag is empty or holds a blank, which the format cannot say.
    """
    lines = []
    for query, ranked in run.items():
        # a stable sort by score of what is sorted by id: trec_eval puts the later id first
        best = sorted(sorted(ranked, reverse=True), key=lambda name: -ranked[name])
        for rank, document in enumerate(best, start=1):
            for word in (query, document, tag):
                _check(word)
            lines.append(f"{query} Q0 {document} {rank} {float(ranked[document])!r} {tag}\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_text("".join(lines), "utf-8")
    fresh.replace(path)


def _check(word: str) -> None:
    if not word or word.split() != [word]:
        raise UsageError(
            f"{word!r} cannot stand in a run", hint="a TREC run has ids and a tag without blanks"
        )
