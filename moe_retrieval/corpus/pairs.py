"""Pairs of texts that belong together or do not, as JSON lines: `{"a", "b", "label", "domain", ...}`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import UsageError
from moe_retrieval.types import slug

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_LINE = 'one {"a": "...", "b": "...", "label": 1, "domain": "..."} per line'


class Split(StrEnum):
    """What a pair is for: learning, choosing, or the one honest look at the end."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts of one domain; `label` 1: they belong together, 0: they do not.

    `a_id`, `b_id`: the documents they are from, which no two splits share; empty: the text is the document.
    `kind`: how they came together. `date`: of the newer document, ISO 8601, or empty. `negatives`: texts that
    do not belong to `a`, hard to tell from `b`. `split`: None, where the pairs were not split yet.
    """

    a: str
    b: str
    domain: str = ""
    label: int = 1
    kind: str = ""
    a_id: str = ""
    b_id: str = ""
    date: str = ""
    negatives: tuple[str, ...] = ()
    split: Split | None = None

    @property
    def documents(self) -> tuple[str, str]:
        """What the two texts are known by."""
        return self.a_id or self.a, self.b_id or self.b

    def to_dict(self) -> dict[str, Any]:
        """The fields that say something; `a`, `b`, `label`, `domain` always."""
        optional = {
            "kind": self.kind,
            "a_id": self.a_id,
            "b_id": self.b_id,
            "date": self.date,
            "negatives": list(self.negatives),
            "split": str(self.split or ""),
        }
        said = {"a": self.a, "b": self.b, "label": self.label, "domain": self.domain}
        return said | {name: value for name, value in optional.items() if value}


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file, in its order.

    Raises:
        UsageError: the file cannot be read, holds no pairs, or a line is none; the message names the line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="give a file of JSON lines") from error
    # cut at line ends only: a string may hold U+2028, at which `splitlines` would cut it
    pairs = list(parse_pairs(text.split("\n"), name=str(path)))
    if not pairs:
        raise UsageError(f"{path} holds no pairs", hint=_LINE)
    return pairs


def parse_pairs(lines: Iterable[str], *, name: str) -> Iterator[Pair]:
    """Pairs of JSON lines; `name` says in messages where the lines come from.

    Raises:
        UsageError: a line is no pair; the message names it.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _pair(line, place=f"{name}, line {number}")


def _pair(line: str, *, place: str) -> Pair:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} is no JSON: {error}", hint=_LINE) from error
    if not isinstance(record, dict):
        raise UsageError(f"{place} is no object", hint=_LINE)
    try:
        return pair_of(record)
    except ValueError as error:
        raise UsageError(f"{place}: {error}", hint=_LINE) from error


def pair_of(record: dict[str, Any]) -> Pair:
    """A pair from a record; fields that it does not know are passed over.

    Raises:
        ValueError: a field is missing, or has a value it cannot have.
    """
    texts = [record.get(name) for name in ("a", "b")]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("'a' and 'b' must be texts that are not empty")
    label = record.get("label", 1)
    if label not in (0, 1):
        raise ValueError(f"the label must be 0 or 1, not {label!r}")
    negatives = record.get("negatives") or ()
    if isinstance(negatives, str) or not all(isinstance(text, str) for text in negatives):
        raise ValueError("'negatives' must be a list of texts")
    split = record.get("split")
    names = {name: str(record.get(name) or "") for name in ("kind", "a_id", "b_id", "date")}
    return Pair(
        a=str(texts[0]),
        b=str(texts[1]),
        domain=slug(str(record.get("domain") or "")),
        label=int(label),
        negatives=tuple(text for text in negatives if text.strip()),
        split=Split(split) if split else None,
        **names,
    )


def write_pairs(path: Path, pairs: Iterable[Pair]) -> str:
    """Write pairs as JSON lines, whole or not at all; returns the sha256 of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    fresh = path.with_name(f".{path.name}.tmp")
    with fresh.open("wb") as stream:
        for pair in pairs:
            line = json.dumps(pair.to_dict(), ensure_ascii=False).encode() + b"\n"
            digest.update(line)
            stream.write(line)
    fresh.replace(path)
    return digest.hexdigest()
