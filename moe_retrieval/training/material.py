"""What a training may see: pairs to learn from and pairs to choose by. The test split is not among them."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from moe_retrieval.corpus.pairs import Pair, Split, read_pairs
from moe_retrieval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SHARE = 0.15
"""Of the documents of an unsplit file, those that validate."""


@dataclass(frozen=True, slots=True)
class TrainingPairs:
    """Pairs whose domain has a name, in two parts that share no document."""

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]

    @classmethod
    def open(cls, path: Path, *, domain: str = "", seed: int = 0) -> TrainingPairs:
        """The pairs of a folder that `moeret pairs build` wrote, or of one file, which is split here.

        `domain`: that of pairs which name none. A folder's test.jsonl is never opened.

        Raises:
            UsageError: the pairs cannot be read, belong to the test split, or the two parts share a document.
        """
        if path.is_dir():
            train, validation = (read_pairs(path / f"{name}.jsonl") for name in ("train", "validation"))
        else:
            train, validation = divide(read_pairs(path), seed=seed)
        found = cls(tuple(_named(train, domain)), tuple(_named(validation, domain)))
        found.check(path)
        return found

    def check(self, path: Path | str) -> None:
        """Refuse what would make a result worthless.

        Raises:
            UsageError: a record is of the test split, or a document is in both parts.
        """
        if any(pair.split is Split.TEST for pair in (*self.train, *self.validation)):
            raise UsageError(
                f"{path} holds pairs of the test split, which no training may see",
                hint="give the folder that moeret pairs build wrote",
            )
        seen = {name for pair in self.train for name in pair.documents}
        for pair in self.validation:
            for name in pair.documents:
                if name in seen:
                    raise UsageError(
                        f"{path}: document {name[:60]!r} is in training and in validation",
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
            UsageError: a domain has fewer pairs that belong together than `at_least`, or none to validate by.
        """
        learnt = self.counts()
        chosen = Counter(pair.domain for pair in self.validation if pair.label == 1)
        for domain in domains:
            if (have := learnt.get(domain, 0)) < at_least:
                raise UsageError(
                    f"domain {domain!r} has {have} pairs to learn from, {at_least} are needed",
                    hint=f"the pairs have: {_list(learnt)}" if learnt else "moeret pairs build",
                )
            if not chosen[domain]:
                raise UsageError(
                    f"domain {domain!r} has no pairs to validate by",
                    hint="moeret pairs build --validation 0.2",
                )


def divide(pairs: Sequence[Pair], *, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Unsplit pairs in two parts that share no document; pairs between the parts are left out.

    Pairs that say their split keep it.
    """
    if all(pair.split for pair in pairs):
        train = [pair for pair in pairs if pair.split is not Split.VALIDATION]
        return train, [pair for pair in pairs if pair.split is Split.VALIDATION]
    names = sorted({name for pair in pairs for name in pair.documents})
    random.Random(seed).shuffle(names)  # noqa: S311 - a draw, not a secret
    held = set(names[: max(1, round(len(names) * _SHARE))])
    # of a pair between the parts, the validation part gets nothing: it would share the other document
    train = [pair for pair in pairs if not held & set(pair.documents)]
    return train, [pair for pair in pairs if held >= set(pair.documents)]


def _named(pairs: Sequence[Pair], domain: str) -> list[Pair]:
    return [pair if pair.domain else replace(pair, domain=domain) for pair in pairs]


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
