"""What the writer is told to do, and what the store may hold then."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.flows.crash_corpus import DOMAINS, Author, Contents, State, write_corpus

KINDS = {"index": 4, "upsert": 2, "reindex": 2, "expert": 2, "rollback": 3, "gc": 3}
"""How often an operation is drawn, relative to the others."""

Targets = dict[str, "State | None"]
"""What a run makes of documents; None: it deletes them."""


@dataclass
class Operation:
    """A command for the writer and what it means.

    `target`: of an index run, the states it brings documents to, those of `fed` in that order; `whole`: what
    else there was is deleted. `exact`: what any generation that it publishes must hold, where that is known.
    `needed`: chunks it must encode, at most. `started`: chunks whose encoding began, over all its runs.
    """

    kind: str
    command: dict[str, Any]
    target: Targets = field(default_factory=dict)
    fed: list[str] = field(default_factory=list)
    whole: bool = False
    exact: Contents | None = None
    needed: int = 0
    started: int = 0
    kills: int = 0


class Planner:
    """Draws operations. `parts`: the number of chunks of a version of a document."""

    def __init__(
        self,
        draw: random.Random,
        *,
        corpus: Path,
        packs: Mapping[str, Sequence[Path]],
        parts: Callable[[str, int], int],
        kinds: Sequence[str] = tuple(KINDS),
    ) -> None:
        self.draw, self.corpus, self.packs, self.parts, self.kinds = draw, corpus, packs, parts, kinds
        self.author = Author(draw)

    def first(self) -> Operation:
        """The run that makes the store."""
        contents = self.author.change({}, share=0.5)
        return self._index("begin", contents, {}, pending=())

    def next(
        self, now: Contents, *, pending: Sequence[Targets], generations: Mapping[int, Contents]
    ) -> Operation:
        """`now`: what the store holds. `generations`: those that it could be rolled back to."""
        kind = self.draw.choices(self.kinds, [KINDS[one] for one in self.kinds])[0]
        match kind:
            case "index":
                share = self.draw.choice([0.1, 0.5, 0.9])
                return self._index("index", self.author.change(now, share=share), now, pending=pending)
            case "upsert":
                return self._upsert(now, pending)
            case "reindex":
                chosen = self.draw.sample(DOMAINS, k=self.draw.randint(1, len(DOMAINS)))
                return self._reindex(kind, now, sorted(chosen))
            case "expert":
                domain = self.draw.choice(DOMAINS)
                pack = str(self.draw.choice(self.packs[domain]))
                return self._reindex(kind, now, [domain], expert=(domain, pack))
            case "rollback":
                number = self.draw.choice(sorted(generations))
                command = {"do": "rollback", "generation": number}
                return Operation(kind, command, exact=generations[number])
            case _:
                return Operation(kind, {"do": "gc", "keep": self.draw.choice([1, 2, 5])}, exact=now)

    def _index(
        self, do: str, contents: dict[str, State], now: Contents, *, pending: Sequence[Targets]
    ) -> Operation:
        order = self.author.order(contents)
        write_corpus(self.corpus, contents, order=order)
        gone: Targets = dict.fromkeys(now.keys() - contents.keys())
        for one in pending:
            gone |= dict.fromkeys(one.keys() - contents.keys())
        command = {"do": do, "corpus": str(self.corpus)}
        needed = self._needed(contents, now, pending)
        return Operation("index", command, {**contents, **gone}, order, whole=True, needed=needed)

    def _upsert(self, now: Contents, pending: Sequence[Targets]) -> Operation:
        touched = self.author.touch(now, count=self.draw.choice([1, 10, 40]))
        order = self.author.order(touched)
        write_corpus(self.corpus, touched, order=order)
        command = {"do": "upsert", "corpus": str(self.corpus)}
        needed = self._needed(touched, now, pending)
        return Operation("upsert", command, dict(touched), order, needed=needed)

    def _reindex(self, kind: str, now: Contents, domains: list[str], **more: Any) -> Operation:
        needed = sum(self.parts(name, version) for name, (home, version) in now.items() if home in domains)
        return Operation(kind, {"do": "reindex", "domains": domains, **more}, exact=now, needed=needed)

    def _needed(self, wanted: Contents, now: Contents, pending: Sequence[Targets]) -> int:
        """Chunks of the documents that are not, or perhaps are not, stored as wanted."""
        return sum(
            self.parts(name, state[1])
            for name, state in wanted.items()
            if now.get(name) != state or any(one.get(name, state) != state for one in pending)
        )
