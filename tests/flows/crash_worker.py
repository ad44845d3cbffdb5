"""A program that writes to a store on command, and may be killed at any moment.

    python -m tests.flows.crash_worker STORE MODEL GRAPHS JOURNAL power|process

Commands are JSON objects, one a line; each is answered with one line when it is done. JOURNAL gets a line
for every generation this program saw published, on the disk before the program goes on: an acknowledgement.
It also gets, not synced, a line at the beginning of every step, so that one can tell what a kill hit.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from moe_retrieval import Encoder, Moeret
from moe_retrieval.corpus.readers import read_corpus, scope_of
from moe_retrieval.errors import MoeretError
from moe_retrieval.generations import roll_back
from moe_retrieval.retrieval import publisher
from moe_retrieval.retrieval.indexer import Indexer, IndexOptions
from moe_retrieval.retrieval.pinned import EncoderChoice, load_encoder
from moe_retrieval.retrieval.rebuilding import rebuild
from moe_retrieval.settings import Settings
from moe_retrieval.storage.catalog import Catalog, Generation
from moe_retrieval.storage.maintenance.gc import collect
from moe_retrieval.storage.tables.table import Table
from moe_retrieval.types import Document, Durability, EngineName, Precision

WINDOW = 16
PUBLISH_SECONDS = 0.15


class Journal:
    """What this program did, for those who look after it died."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.fed = 0

    def step(self, what: str, **more: Any) -> None:
        os.write(self._handle, json.dumps({"step": what, **more}).encode() + b"\n")

    def acknowledge(self, generation: int) -> None:
        line = {"published": generation, "fed": self.fed}
        os.write(self._handle, json.dumps(line).encode() + b"\n")
        os.fsync(self._handle)

    def feeding(self, documents: Iterable[Any]) -> Iterator[Any]:
        """The documents, counted when they are handed over."""
        self.fed = 0
        for item in documents:
            self.fed += isinstance(item, Document)
            yield item


def watch(owner: Any, name: str, journal: Journal, tell: Callable[..., dict[str, Any]] | None = None) -> None:
    """Have a method note in the journal when it begins and when it ends."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def noted(*args: Any, **more: Any) -> Any:
        journal.step(name, **(tell(*args) if tell else {}))
        found = method(*args, **more)
        journal.step(f"after {name}")
        return found

    setattr(owner, name, noted)


def watch_all(journal: Journal) -> None:
    for name in ("write", "delete_documents", "maintain", "compact", "restore"):
        if hasattr(Table, name):
            watch(Table, name, journal)
    watch(publisher, "fit_router", journal)
    watch(publisher, "build_indexes", journal)
    watch(rebuild, "verify", journal)
    watch(Encoder, "encode_document", journal, lambda _self, texts: {"chunks": len(texts)})
    publish = Catalog.publish

    @functools.wraps(publish)
    def acknowledged(self: Catalog, *args: Any, **more: Any) -> Generation:
        journal.step("publish")
        found = publish(self, *args, **more)
        journal.acknowledge(found.number)
        return found

    Catalog.publish = acknowledged  # type: ignore[method-assign]


class Worker:
    """Carries out the commands."""

    def __init__(self, store: str, model: str, graphs: str, journal: Journal, *, durability: str) -> None:
        self.journal = journal
        self.choice = EncoderChoice(model=model, precision=Precision.FP32, cache=Path(graphs))
        self.settings = Settings(
            store=Path(store),
            model=model,
            precision=Precision.FP32,
            engine=EngineName.AUTO,
            cache=Path(graphs),
            durability=Durability(durability),
        )

    def warm_up(self) -> None:
        """Read in all that a run would import, so that kills hit the work and not its preparation."""
        import faiss  # noqa: F401
        import lance  # noqa: F401
        import lancedb  # noqa: F401
        import sklearn.linear_model  # noqa: F401

        load_encoder(None, self.choice, experts={}).encode_document(["warm"])

    def do(self, command: dict[str, Any]) -> dict[str, Any]:
        with Moeret.open(settings=self.settings) as moeret:
            return getattr(self, command.pop("do"))(moeret, **command)

    def begin(self, moeret: Moeret, *, corpus: str) -> dict[str, Any]:
        """The first index run, which makes the store."""
        return moeret.index(corpus, domain_field="domain").to_dict()

    def index(self, moeret: Moeret, *, corpus: str, prune: bool = True) -> dict[str, Any]:
        """Bring the store to the corpus, deletions too."""
        options = IndexOptions(window=WINDOW, publish_seconds=PUBLISH_SECONDS)
        indexer = Indexer(moeret.store, encoder=moeret.encoder(), options=options)
        documents = self.journal.feeding(read_corpus([corpus], domain_field="domain"))
        return indexer.index(documents, scope=scope_of([corpus]), prune=prune).to_dict()

    def upsert(self, moeret: Moeret, *, corpus: str) -> dict[str, Any]:
        """Bring the documents of the corpus up to date, and leave the others."""
        return self.index(moeret, corpus=corpus, prune=False)

    def reindex(
        self, moeret: Moeret, *, domains: list[str], expert: tuple[str, str] | None = None
    ) -> dict[str, Any]:
        """Embed domains again; with `expert`, a domain and a pack's folder, under that one."""
        if expert:
            moeret.register_expert(expert[0], expert[1])
        reindexer = moeret.reindexer()
        reindexer.window = WINDOW
        return reindexer.run(domains=domains, force=True).to_dict()

    def rollback(self, moeret: Moeret, *, generation: int) -> dict[str, Any]:
        """Make the content of an older generation live again."""
        return roll_back(moeret.store, self.choice, to=generation).to_dict()

    def gc(self, moeret: Moeret, *, keep: int) -> dict[str, Any]:
        """Remove what only older generations need."""
        return collect(moeret.store, keep=keep).to_dict()


def main() -> None:
    store, model, graphs, file, durability = sys.argv[1:]
    journal = Journal(Path(file))
    worker = Worker(store, model, graphs, journal, durability=durability)
    worker.warm_up()
    watch_all(journal)  # only now: another writer may be noting its steps there
    answer({"ready": os.getpid()})
    for line in sys.stdin:
        try:
            answer({"done": worker.do(json.loads(line))})
        except MoeretError as error:
            answer({"failed": f"{type(error).__name__}: {error.message} / {error.hint}"})


def answer(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record, default=str) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
