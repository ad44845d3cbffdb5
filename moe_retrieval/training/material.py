"""What a training may see: pairs to learn from and pairs to choose by. The test split is not among them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from moe_retrieval.corpus.pairs import Pair, Split, read_pairs
from moe_retrieval.errors import UsageError
from moe_retrieval.training.pairs.grouping import keys_of
from moe_retrieval.training.pairs.splits import split_pairs
from moe_retrieval.training.pairs.texts import folded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SHARE = 0.15
"""Of the pairs of an unsplit file, those that validate."""

_FEWEST_QUERIES = 2
"""Texts that must be asked for: of fewer no interval can be had, and the gate could not decide."""


@dataclass(frozen=True, slots=True)
class TrainingPairs:
    """Pairs whose domain has a name, in two parts that share no document and no text."""

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]

    @classmethod
    def open(cls, path: Path, *, domain: str = "", seed: int = 0) -> TrainingPairs:
        """The pairs of a folder that `moeret pairs build` wrote, or of one file, which is split here.

        `domain`: that of pairs which name none. A folder's test.jsonl is never opened.

        Raises:
            UsageError: the pairs cannot be read, are of the test split, have one text on both sides, or share
                a document between the two parts.
        """
        train: Sequence[Pair]
        validation: Sequence[Pair]
        if path.is_dir():
            train, validation = (read_pairs(path / f"{name}.jsonl") for name in ("train", "validation"))
        else:
            train, validation = divide(read_pairs(path), seed=seed, name=str(path))
        found = cls(tuple(_named(train, domain)), tuple(_named(validation, domain)))
        found.check(path)
        return found

    def check(self, path: Path | str) -> None:
        """Refuse what would make a result worthless.

        Raises:
            UsageError: a record is of the test split, or has one text on both sides; a document or a text is
                in both parts.
        """
        if any(pair.split is Split.TEST for pair in (*self.train, *self.validation)):
            raise UsageError(
                f"{path} holds pairs of the test split, which no training may see",
                hint="give the folder that moeret pairs build wrote",
            )
        both = [*self.train, *self.validation]
        if same := [pair.a for pair in both if pair.label == 1 and folded(pair.a) == folded(pair.b)]:
            raise UsageError(
                f"{path}: {len(same)} pairs have the same text on both sides, such as {same[0][:60]!r}",
                hint="moeret pairs build leaves them out",
            )
        seen = {key for pair in self.train for key in keys_of(pair)}
        if shared := sorted({key for pair in self.validation for key in keys_of(pair)} & seen):
            kind, name = shared[0]
            raise UsageError(
                f"{path}: {'document' if kind == 'id' else 'the text'} {name[:60]!r} is in training and in "
                "validation",
                hint="split by document: moeret pairs build",
            )

    def only(self, domains: Sequence[str]) -> TrainingPairs:
        """The pairs of these domains."""
        wanted = set(domains)
        parts = (
            tuple(pair for pair in part if pair.domain in wanted) for part in (self.train, self.validation)
        )
        return TrainingPairs(*parts)

    def counts(self) -> Mapping[str, int]:
        """Pairs to learn from by domain: those that belong together."""
        return dict(sorted(Counter(pair.domain for pair in self.train if pair.label == 1).items()))

    def demand(self, domains: Sequence[str], *, at_least: int) -> None:
        """Refuse a training on too little.

        Raises:
            UsageError: a domain has fewer pairs that belong together than `at_least`, or too few to validate
                by.
        """
        learnt = self.counts()
        asked = {(pair.domain, pair.a) for pair in self.validation if pair.label == 1}
        chosen = Counter(domain for domain, _ in asked)
        for domain in domains:
            if (have := learnt.get(domain, 0)) < at_least:
                raise UsageError(
                    f"domain {domain!r} has {have} pairs to learn from, {at_least} are needed",
                    hint=f"the pairs have: {_list(learnt)}" if learnt else "moeret pairs build",
                )
            if (have := chosen[domain]) < _FEWEST_QUERIES:
                few = f"only {have} text" if have else "no pairs"
                raise UsageError(
                    f"domain {domain!r} has {few} to validate by", hint="moeret pairs build --validation 0.2"
                )


def divide(
    pairs: Sequence[Pair], *, seed: int, name: str = "the file"
) -> tuple[Sequence[Pair], Sequence[Pair]]:
    """Unsplit pairs in two parts that share no document; pairs between the parts are left out.

    Pairs that say their split keep it.

    Raises:
        UsageError: some pairs say their split, and others do not.
    """
    said = sum(pair.split is not None for pair in pairs)
    if said == len(pairs):
        train = [pair for pair in pairs if pair.split is not Split.VALIDATION]
        return train, [pair for pair in pairs if pair.split is Split.VALIDATION]
    if said:
        raise UsageError(
            f"{name}: {said} of {len(pairs)} pairs say which split they are of, the others do not",
            hint="moeret pairs build splits all of them",
        )
    parts = split_pairs(pairs, seed=seed, validation=_SHARE, test=0.0)
    return parts.train, parts.validation


def _named(pairs: Sequence[Pair], domain: str) -> list[Pair]:
    return [pair if pair.domain else replace(pair, domain=domain) for pair in pairs]


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
