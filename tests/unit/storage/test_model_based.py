"""Whatever is done to a store, in whatever order, it answers as a plain dictionary of documents does.

The long form, 5,000 steps (five minutes on two cores):
    pytest -m slow tests/unit/storage/test_model_based.py
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from plain_model import DIM, FILTERS, WORDS, Content, Doc, vector_of, vectors_of
from storage_builders import key_of

from moe_retrieval.errors import BadVectorError, StoreError
from moe_retrieval.filters import parse_filter
from moe_retrieval.storage.index import build_index, open_index
from moe_retrieval.storage.indexes import faiss_choice
from moe_retrieval.storage.store import Store
from moe_retrieval.storage.tables.rows import to_batch, with_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plain_model import Hit

    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.tables.table import Table

DOMAINS = ("cvd", "skin")
NOW = "2026-01-01T00:00:00+00:00"

domains = st.sampled_from(DOMAINS)
names = st.sampled_from([f"d{number}" for number in range(10)])
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
docs = st.builds(
    Doc,
    texts=st.lists(texts, min_size=1, max_size=3).map(tuple),
    year=st.integers(2000, 2009),
    tag=st.sampled_from(["", "old", "new", "it's"]),
    extra=st.sampled_from(["", "", "", "first", "second", "third"]),
)
fillings = st.dictionaries(names, docs, min_size=1, max_size=4)


class StoreMachine(RuleBasedStateMachine):
    """A store of two domains, and beside it what the dictionaries `working` and `past` say it must hold.

    `working`: the tables as their writer sees them; `past`: by generation, what was published. `searched`:
    the kinds of index that answered.
    """

    searched: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="model-"))
        self.store = Store.open(self.folder / "store", create=True, durable=False)
        self.working = {domain: Content() for domain in DOMAINS}
        self.tables = {domain: self.made(domain, space=0) for domain in DOMAINS}
        self.past: dict[int, dict[str, Content]] = {}
        self.publish()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def made(self, domain: str, *, space: int) -> Table:
        return self.store.create_table(domain, dim=DIM, fingerprint=f"space-{space}")

    @property
    def live(self) -> Generation:
        found = self.store.catalog.latest()
        assert found is not None
        return found

    def entry(self, domain: str) -> DomainEntry:
        return self.live.domains[domain]

    # --- what a writer does

    @rule(domain=domains, new=fillings)
    def upsert(self, domain: str, new: dict[str, Doc]) -> None:
        content = self.working[domain]
        rows = [row for name, doc in new.items() for row in doc.rows(name)]
        vectors = vectors_of([row.chunk.content for row in rows], content.space)
        replaces = np.array([key_of(name) for name in new], np.int64)
        self.tables[domain].write(to_batch(rows, vectors), replaces=replaces)
        content.deleted |= bool(content.docs.keys() & new.keys())
        content.docs |= new
        content.fresh = False

    @rule(domain=domains, new=fillings)
    def add(self, domain: str, new: dict[str, Doc]) -> None:
        """As for documents that the table does not hold: nothing is looked for to be replaced."""
        content = self.working[domain]
        new = {name: doc for name, doc in new.items() if name not in content.docs}
        rows = [row for name, doc in new.items() for row in doc.rows(name)]
        if rows:
            self.tables[domain].write(
                to_batch(rows, vectors_of([row.chunk.content for row in rows], content.space))
            )
            content.docs |= new
            content.fresh = False

    @rule(domain=domains, gone=st.sets(names, max_size=4))
    def delete(self, domain: str, gone: set[str]) -> None:
        content = self.working[domain]
        there = gone & content.docs.keys()
        rows = sum(len(content.docs.pop(name).texts) for name in there)
        assert (
            self.tables[domain].delete_documents(np.array([key_of(name) for name in gone], np.int64)) == rows
        )
        content.deleted |= bool(there)

    @rule(domain=domains)
    def compact(self, domain: str) -> None:
        self.tables[domain].compact()

    @rule(domain=domains)
    def maintain(self, domain: str) -> None:
        self.tables[domain].maintain()
        self.working[domain].fresh = True

    @rule(domain=domains, name=names, doc=docs, bad=st.sampled_from([np.nan, np.inf, 0.0, 2.0]))
    def be_refused_a_bad_vector(self, domain: str, name: str, doc: Doc, bad: float) -> None:
        rows = doc.rows(name)
        vectors = vectors_of([row.chunk.content for row in rows], 0)
        vectors[-1] *= bad
        with pytest.raises(BadVectorError, match=f"{name}, chunk {len(rows) - 1}"):
            to_batch(rows, vectors)

    @rule(domain=domains, name=names, doc=docs)
    def be_refused_twins(self, domain: str, name: str, doc: Doc) -> None:
        rows = doc.rows(name) * 2
        with pytest.raises(StoreError, match="two rows are chunk 0"):
            to_batch(rows, vectors_of([row.chunk.content for row in rows], 0))

    # --- what makes it visible, and takes it back

    @rule()
    def publish(self) -> None:
        entries = {name: table.entry(expert="general") for name, table in self.tables.items()}
        self._publish(entries, self.working)

    def _publish(self, entries: Mapping[str, DomainEntry], contents: Mapping[str, Content]) -> None:
        for entry in entries.values():
            if entry.rows:
                build_index(self.store.view(entry), folder=self.store.indexes_dir, entry=entry)
        generation = self.store.catalog.publish(entries, model={"name": "plain"}, created=NOW)
        for entry in entries.values():
            self.store.note_progress(entry.table, generation.number)
        self.past[generation.number] = {name: content.copy() for name, content in contents.items()}
        self.examine()

    def examine(self) -> None:
        """Ask what was just published: all of it, and a part, another one each time."""
        number = self.live.number
        text = WORDS[number % len(WORDS)]
        for domain in DOMAINS:
            for where in ("", [*FILTERS][number % len(FILTERS)]):
                self.search_by_vector(domain, text, 7, where)
                self.search_by_words(domain, f"{text} {WORDS[0]}", 7, where)

    @rule(domain=domains)
    def reindex(self, domain: str) -> None:
        """Other vectors in a new table, from what is published; what was only written stays behind."""
        entry, published = self.entry(domain), self.past[self.live.number]
        content = Content(dict(published[domain].docs), space=published[domain].space + 1)
        table = self.made(domain, space=content.space)
        for batch in self.store.view(entry).batches(size=5):
            table.write(with_vectors(batch, vectors_of(batch["content"].to_pylist(), content.space)))
        table.maintain()
        fresh = {domain: table.entry(expert="general")}
        self._publish({**self.live.domains, **fresh}, {**published, domain: content})
        self.tables[domain], self.working[domain] = table, content.copy()

    @rule(back=st.integers(1, 5))
    def roll_back(self, back: int) -> None:
        number = max(1, self.live.number - back)
        older = self.store.catalog.read(number)
        generation = self.store.catalog.publish(older.domains, model=older.model, created=NOW)
        self.past[generation.number] = self.past[number]
        self.examine()
        self.working = {name: content.copy() for name, content in self.past[number].items()}
        self.reopen()

    @rule(domain=domains)
    def restore(self, domain: str) -> None:
        self.tables[domain].restore(self.entry(domain).version)
        self.working[domain] = self.past[self.live.number][domain].copy()

    @rule()
    def reopen(self) -> None:
        """What is written and not published is there for the next writer."""
        self.store = Store.open(self.folder / "store", durable=False)
        self.tables = {name: self.store.table(self.entry(name).table, resume=True) for name in DOMAINS}

    # --- what is asked

    @invariant()
    def hold_the_documents(self) -> None:
        for domain, table in self.tables.items():
            stored = table.documents()
            assert sorted(key_of(name) for name in self.working[domain].docs) == stored.keys.tolist()
            assert stored.complete.all()

    @rule(domain=domains, text=texts, k=st.integers(1, 40), where=st.sampled_from(sorted(FILTERS)))
    def search_by_vector(self, domain: str, text: str, k: int, where: str) -> None:
        self._search_by_vector(self.live.number, domain, text, k, where)

    @rule(domain=domains, text=texts, k=st.integers(1, 40), back=st.integers(1, 4))
    def search_an_older_generation(self, domain: str, text: str, k: int, back: int) -> None:
        self._search_by_vector(max(1, self.live.number - back), domain, text, k, "")

    def _search_by_vector(self, number: int, domain: str, text: str, k: int, where: str) -> None:
        content, entry = self.past[number][domain], self.store.catalog.read(number).domains[domain]
        view, query = self.store.view(entry), vector_of(text, content.space)
        if not view.rows:
            assert not content.docs
            return
        every = content.nearest(query, where=FILTERS[where])
        allowed = view.matching(parse_filter(where), known=("year", "tag")) if where else None
        index = open_index(view, folder=self.store.indexes_dir, entry=entry, notify=lambda _message: None)
        self.searched.add(index.info.factory)
        found = index.search(query[None], k=k, allowed=allowed)[0]
        assert len(found.keys) == min(k, len(every))
        if index.info.factory in ("Flat", "exact"):
            assert_hits(found.keys, found.scores, every, k=k)
        else:
            assert_true_scores(found.keys, found.scores, every)
        rows = view.fetch(found.keys, offsets=index.offsets(found.keys)).to_pylist()
        texts_there = {key: (name, part) for key, name, part, _ in content.chunks()}
        assert [(row["doc_id"], row["content"]) for row in rows] == [
            texts_there[key] for key in found.keys.tolist()
        ]

    @rule(domain=domains, text=texts, k=st.integers(1, 40), where=st.sampled_from(sorted(FILTERS)))
    def search_by_words(self, domain: str, text: str, k: int, where: str) -> None:
        content = self.past[self.live.number][domain]
        view = self.store.view(self.entry(domain))
        words = " ".join(dict.fromkeys(text.split()))
        wanted = content.by_words(words, where=FILTERS[where])
        condition = parse_filter(where) if where else None
        found = view.search_text(words, k=k, where=condition, known=("year", "tag"))
        scores = {hit.key: hit.score for hit in wanted}
        assert set(found.keys.tolist()) <= scores.keys()
        assert len(found.keys) == min(k, len(wanted))
        order = [(-score, key) for key, score in zip(found.keys.tolist(), found.scores.tolist(), strict=True)]
        assert order == sorted(order)
        if content.fresh and not content.deleted:
            assert_hits(found.keys, found.scores, wanted, k=k)

    @precondition(lambda self: self.live.number > 1)
    @rule()
    def read_the_history(self) -> None:
        assert [one.number for one in self.store.catalog.history()] == sorted(self.past)


class LargeTables(StoreMachine):
    """With enough rows in each table, and limits so low, that no search reads all of them."""

    searched: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        super().__init__()
        for domain in DOMAINS:
            self.add(
                domain, {f"always-{at}": Doc((f"{WORDS[at % 6]} {WORDS[at // 6]}",), at) for at in range(24)}
            )
        self.publish()


def assert_hits(keys: np.ndarray, scores: np.ndarray, every: list[Hit], *, k: int) -> None:
    """The k best of `every`: scores alike, each row's its own, of equal texts those with the least keys."""
    true = {hit.key: hit for hit in every}
    found = [true[key] for key in keys.tolist()]
    np.testing.assert_allclose(scores, [hit.score for hit in every[:k]], atol=1e-5)
    np.testing.assert_allclose(scores, [hit.score for hit in found], atol=1e-5)
    for text in {hit.text for hit in found}:
        equals = [hit.key for hit in found if hit.text == text]
        assert equals == sorted(hit.key for hit in every if hit.text == text)[: len(equals)]


def assert_true_scores(keys: np.ndarray, scores: np.ndarray, every: list[Hit]) -> None:
    """Of an approximate search: no foreign row, none twice, each with its own score but for compression.

    Eight bits are fitted to the rows of the first build: in so small a table, later ones lie outside of them.
    """
    true = {hit.key: hit.score for hit in every}
    assert len(set(keys.tolist())) == len(keys)
    np.testing.assert_allclose(scores, [true[key] for key in keys.tolist()], atol=0.3)


def walk(machine: type[StoreMachine], steps: int, *, examples: int) -> None:
    """Random walks of so many steps, the same in every run."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(machine, settings=chosen)  # type: ignore[no-untyped-call]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that these tables are large ones."""
    monkeypatch.setattr(faiss_choice, "FLAT_ROWS", 16)


def test_a_store_answers_as_a_dictionary_does() -> None:
    walk(StoreMachine, 40, examples=4)
    assert StoreMachine.searched == {"Flat"}


def test_of_large_tables_every_hit_is_right(small: None) -> None:
    walk(LargeTables, 20, examples=2)
    assert LargeTables.searched - {"Flat", "exact"}


@pytest.mark.slow
def test_a_store_answers_as_a_dictionary_does_over_5000_steps() -> None:
    walk(StoreMachine, 50, examples=100)


@pytest.mark.slow
def test_of_large_tables_every_hit_is_right_over_1000_steps(small: None) -> None:
    walk(LargeTables, 50, examples=20)
