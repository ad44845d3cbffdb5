"""However documents were written, moved, embedded again and taken back, queries answer as plain search does.

The long form, 400 steps (minutes):
    pytest -m slow tests/unit/retrieval/test_model_of_queries.py
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
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from moe_retrieval import Document, Indexer, Retriever, Store
from moe_retrieval.errors import UsageError
from moe_retrieval.generations import roll_back
from moe_retrieval.retrieval.pinned import EncoderChoice
from moe_retrieval.retrieval.reindexer import Reindexer

if TYPE_CHECKING:
    from moe_retrieval import Encoder

WORDS = ("heart", "lung", "worm", "cell", "drug", "fever")
Texts = dict[str, tuple[str, str]]
"""Domain and text of each document."""

domains = st.sampled_from(["cvd", "skin"])
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)
batches = st.dictionaries(st.sampled_from([f"d{at}" for at in range(9)]), texts, min_size=1, max_size=4)


class QueryMachine(RuleBasedStateMachine):
    """A store, and for each generation the texts it must hold."""

    encoder: ClassVar[Encoder]
    model: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="queries-"))
        self.store = Store.open(self.folder / "store", create=True, durable=False)
        self.retriever = Retriever(self.store, encoder=self.encoder)
        self.past: dict[int, Texts] = {}
        self.live: Texts = {}
        self.write("cvd", {"first": "heart"})
        self.write("skin", {"second": "worm"})

    def teardown(self) -> None:
        self.retriever.close()
        shutil.rmtree(self.folder)

    @rule(domain=domains, batch=batches)
    def write(self, domain: str, batch: dict[str, str]) -> None:
        """New, changed, unchanged documents, and such as move here from the other domain."""
        documents = [Document(name, text) for name, text in batch.items()]
        report = Indexer(self.store, encoder=self.encoder).index(documents, domain=domain)
        self.live = self.live | {name: (domain, text) for name, text in batch.items()}
        self.past[report.generation] = self.live

    @rule(domain=domains)
    def embed_again(self, domain: str) -> None:
        report = Reindexer(self.store, encoder=self.encoder).run(domains=[domain], force=True)
        self.past[report.generation] = self.live

    @rule(back=st.integers(1, 3))
    def go_back(self, back: int) -> None:
        target = max(max(self.past) - back, min(self.past) + 1)
        if target == max(self.past):
            return
        try:
            done = roll_back(self.store, EncoderChoice(model=str(self.model)), to=target)
        except UsageError as error:  # and then nothing is published
            assert "holds what is live" in str(error)
            assert self.past[target] == self.live
            return
        self.live = self.past[done.generation] = self.past[target]

    @rule()
    def reopen(self) -> None:
        self.retriever.close()
        self.store = Store.open(self.folder / "store", durable=False)
        self.retriever = Retriever(self.store, encoder=self.encoder)

    @rule(domain=domains, text=texts, k=st.integers(1, 12))
    def ask_by_vector(self, domain: str, text: str, k: int) -> None:
        mine = {name: words for name, (home, words) in self.live.items() if home == domain}
        if not mine:
            return
        vectors = self.encoder.encode_document(list(mine.values()), domain=domain)
        query = self.encoder.encode_query([text], domain=domain)[0]
        true = dict(zip(mine, (vectors @ query).tolist(), strict=True))
        answer = self.retriever.query(text, mode="vector", domains=[domain], k=k)
        assert answer.generation == max(self.past)
        np.testing.assert_allclose(
            [hit.score for hit in answer.hits], sorted(true.values())[::-1][:k], atol=1e-5
        )
        assert all(abs(true[hit.doc_id] - hit.score) < 1e-5 for hit in answer.hits)
        assert all(mine[hit.doc_id] == hit.text for hit in answer.hits)
        assert len({hit.doc_id for hit in answer.hits}) == min(k, len(mine))

    @rule(word=st.sampled_from(WORDS))
    def ask_by_word(self, word: str) -> None:
        answer = self.retriever.query(word, mode="text", domains=["cvd", "skin"], k=50)
        having = {name: home for name, (home, text) in self.live.items() if word in text.split()}
        assert {hit.doc_id: hit.domain for hit in answer.hits} == having
        assert len(answer.hits) == len(having)


def walk(encoder: Encoder, model: Path, steps: int, *, examples: int) -> None:
    QueryMachine.encoder, QueryMachine.model = encoder, model
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(QueryMachine, settings=chosen)  # type: ignore[no-untyped-call]


def test_queries_answer_as_a_plain_search_does(encoder: Encoder, tiny_model: Path) -> None:
    walk(encoder, tiny_model, 8, examples=2)


@pytest.mark.slow
def test_queries_answer_as_a_plain_search_does_over_400_steps(encoder: Encoder, tiny_model: Path) -> None:
    walk(encoder, tiny_model, 40, examples=10)
