"""A writer that dies again and again, and what must hold of its store after every death."""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from moe_retrieval import Document, Store
from moe_retrieval.corpus.chunking import Chunker
from moe_retrieval.types import GENERAL
from tests.flows.crash_checks import Promise, Seen, Vectors, check_answer, read
from tests.flows.crash_corpus import DOMAINS, MOST_CHUNKS, text_of
from tests.flows.crash_experts import Models
from tests.flows.crash_operations import KINDS, Operation, Planner
from tests.flows.crash_program import PATIENCE, Program, Reader, Writers
from tests.flows.crash_worker import WINDOW

RESUMED = 0.7
"""Share of killed operations that are gone on with; after the others comes something else."""
OFTEN = 3
"""Kills after which an operation that is gone on with may come to its end."""
BATCH = WINDOW + MOST_CHUNKS - 1
"""Chunks of the largest batch: the document that fills it is not cut apart."""

ASIDE = ("fit_router", "verify")
"""Steps that encode chunks for another end than to store them."""


@dataclass
class Figures:
    """What was done. `redone`: chunks encoded twice because of kills, in all and at worst per kill."""

    kills: Counter[str] = field(default_factory=Counter)
    hit: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    generations: int = 0
    rows: int = 0
    acknowledged: int = 0
    answers: int = 0
    hits: int = 0
    gone_on_with: int = 0
    redone: int = 0
    worst_redone: float = 0.0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()
        }


class CrashRun:
    """One store and its writers, and what is known of it.

    `store` may lie elsewhere than `folder`, which holds the journal.
    """

    bounded = True
    """Whether a kill may cost one batch at most."""

    def __init__(
        self,
        folder: Path,
        *,
        models: Models,
        seed: int,
        store: Path | None = None,
        durability: str = "power",
        kinds: Sequence[str] = tuple(KINDS),
    ) -> None:
        self.folder, self.store, self.models = folder, store or folder / "store", models
        self.journal = folder / "journal.jsonl"
        self.draw = random.Random(seed)
        self.vectors = Vectors(models)
        corpus = folder / "corpus.jsonl"
        self.planner = Planner(
            self.draw, corpus=corpus, packs=models.packs, parts=_parts_under(models), kinds=kinds
        )
        self.promise, self.seen = Promise(), dict[int, Seen]()
        self.newest = 0
        self.figures = Figures()
        self.unfinished: Operation | None = None
        self.readers: list[Reader] = []
        self._took: dict[str, float] = defaultdict(lambda: 1.5)
        words = (str(self.store), str(models.base), str(models.graphs), str(self.journal), durability)
        self.writers = Writers(lambda: Program("crash_worker", *words))
        self.writer: Program | None = None

    def begin(self, *, readers: int = 0) -> None:
        """Make the store, undisturbed, and start the readers."""
        assert not self.run(self.planner.first(), kill_after=None)
        for number in range(readers):
            file = self.folder / f"answers-{number}.jsonl"
            self.readers.append(Reader(self.store, self.models, file, seed=number))

    def kill_once(self) -> None:
        """Operations until one of them was killed."""
        while True:
            operation = self.next()
            often = operation.kills >= OFTEN  # only at its end it shows what was done twice
            delay = None if often else self.draw.uniform(0, 1.1 * self._took[operation.kind])
            if self.run(operation, kill_after=delay):
                self._took[operation.kind] *= 1.1  # it would have taken longer: how much is not known
                return

    def next(self) -> Operation:
        """The killed operation again, or another."""
        left = self.unfinished
        if left and self.draw.random() < RESUMED:
            self.figures.gone_on_with += 1
            return left
        if left and left.target:
            self.promise.pending.append(left.target)
        self.unfinished = None
        numbers = [number for number in Store.open(self.store).catalog.numbers() if number in self.seen]
        generations = {number: self.seen[number].contents for number in numbers}
        return self.planner.next(self.promise.now, pending=self.promise.pending, generations=generations)

    def run(self, operation: Operation, *, kill_after: float | None) -> bool:
        """Carry it out, and check the store after its end or its death; gives whether it was killed."""
        self.writer = self.writer or self.writers.take()
        self.journal.write_bytes(b"")
        began = time.monotonic()
        self.writer.say(operation.command)
        answer = self.writer.answer(within=PATIENCE if kill_after is None else kill_after)
        if answer is None:
            self.die()
            self.writer = None
        else:
            assert "done" in answer or "holds what is live" in answer["failed"], f"{operation.kind}: {answer}"
            took = time.monotonic() - began
            self._took[operation.kind] += 0.3 * (took - self._took[operation.kind])
        self.check(operation, killed=answer is None, done=answer is not None and "done" in answer)
        return answer is None

    def die(self) -> None:
        """End the writer, whatever it does."""
        assert self.writer is not None
        self.writer.kill()

    def check(self, operation: Operation, *, killed: bool, done: bool) -> None:
        """Everything that must hold now; what the store holds is taken in."""
        events = [json.loads(line) for line in self.journal.read_bytes().splitlines()]
        operation.started += _encoded(events)
        operation.kills += killed
        acknowledged = {one["published"]: one["fed"] for one in events if "published" in one}
        self.figures.acknowledged += len(acknowledged)
        before = self.newest
        self._read_new(operation, acknowledged)
        for reader in self.readers:
            assert reader.program.process.poll() is None, "a reader died"
            self._check_answers(reader.answers())
        if killed:
            done = operation.exact is not None and self.newest > before  # it died after it was published
            self.unfinished = None if done else operation
            self.figures.kills[operation.kind] += 1
            self.figures.hit[_hit(events)] += 1
        else:
            self._finish(operation, done=done)

    def _read_new(self, operation: Operation, acknowledged: Mapping[int, int]) -> None:
        store = Store.open(self.store)
        numbers = store.catalog.numbers()
        assert numbers[-1] >= max([self.newest, *acknowledged]), f"{acknowledged} are lost: {numbers}"
        self.promise.target = operation.target
        for number in [one for one in numbers if one > self.newest]:
            found = self._read(store, number)
            fed = max([fed for known, fed in acknowledged.items() if known <= number], default=0)
            if operation.exact is None:
                self.promise.check(found.contents, acknowledged=operation.fed[:fed])
            else:
                assert found.contents == operation.exact, f"generation {number} of {operation.kind} differs"
            self.promise.now = found.contents
        self.newest = numbers[-1]
        for number in self.draw.sample(numbers, k=min(2, len(numbers))):
            again = self._read(store, number)
            assert again == self.seen.setdefault(number, again), f"generation {number} is not what it was"

    def _read(self, store: Store, number: int) -> Seen:
        found = read(store, store.catalog.read(number), self.vectors)
        self.figures.generations += 1
        self.figures.rows += found.rows
        self.seen.setdefault(number, found)
        return found

    def _check_answers(self, answers: Sequence[dict[str, Any]]) -> None:
        for answer in answers:
            check_answer(answer, self.seen[answer["generation"]], self.vectors)
            self.figures.hits += len(answer["hits"])
        self.figures.answers += len(answers)

    def _finish(self, operation: Operation, *, done: bool) -> None:
        """It came to its end; a rollback to what is live is refused, and then nothing was done."""
        self.unfinished = None
        self.figures.finished[operation.kind] += 1
        held = {name: self.promise.now.get(name) for name in operation.target}
        assert held == operation.target, f"{operation.kind} is done, but the store differs"
        redone = max(0, operation.started - operation.needed)
        told = f"{redone} chunks encoded twice after {operation.kills} kills of {operation.kind}"
        assert not self.bounded or redone <= operation.kills * BATCH, told
        self.figures.redone += redone
        if operation.kills:
            self.figures.worst_redone = max(self.figures.worst_redone, redone / operation.kills)
        if operation.whole or (operation.kind == "rollback" and done):
            self.promise.pending = []

    def close(self) -> None:
        """End all programs; the readers must end well."""
        self.writers.close()
        if self.writer:
            self.writer.kill()
        for reader in self.readers:
            reader.program.end()
            self._check_answers(reader.answers())


def _encoded(events: Sequence[Mapping[str, Any]]) -> int:
    """Chunks whose encoding began, those left out that a router was fitted on or a new table checked with."""
    count, aside = 0, ""
    for event in events:
        step = event.get("step", "")
        if step in ASIDE:
            aside = step
        elif step == f"after {aside}":
            aside = ""
        count += event.get("chunks", 0) if not aside else 0
    return count


def _hit(events: Sequence[Mapping[str, Any]]) -> str:
    """What a kill came into."""
    if not events:
        return "before the first step"
    last = events[-1]
    return str(last.get("step", "after an acknowledgement"))


def _parts_under(models: Models) -> Callable[[str, int], int]:
    """The number of chunks of a version of a document, under a model's tokenizer."""
    encoder = models.encoder(DOMAINS[0], GENERAL)
    chunker = Chunker(encoder.count_tokens, max_tokens=encoder.token_limit)

    @cache
    def parts(name: str, version: int) -> int:
        return len(chunker.chunk(Document(name, text_of(name, version))))

    return parts
