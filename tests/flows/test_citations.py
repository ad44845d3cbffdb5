"""Every cited span gives back the same text from its source, whatever was asked."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from moe_retrieval import ContextFormat, ContextOptions, Document, Moeret, build_context, read_corpus
from moe_retrieval.retrieval.context import Assembly
from tests.program import ROOT, Done


def sources() -> dict[tuple[str, str], str]:
    """Text of every document, read anew."""
    documents = read_corpus([str(ROOT / "sample_corpora")])
    return {(one.source, one.id): one.text for one in documents if isinstance(one, Document)}


def check(store: Path, *, contexts: int, seed: int) -> None:
    """Random questions made of words of the corpus; every span of their contexts is sliced again."""
    rng = random.Random(seed)
    texts = sources()
    words = [word for text in texts.values() for word in text.split()]
    asked = [" ".join(rng.choices(words, k=rng.randint(2, 12))) for _ in range(contexts)]
    moeret = Moeret.open(store)
    encoder = moeret.retriever.snapshot().encoder
    cited = 0
    for answer in moeret.query_many(asked, k=20):
        generation = moeret.store.catalog.read(answer.generation)
        assembly = Assembly.of(generation, secret=moeret.store.secret, count=encoder.count_tokens)
        budget, form = rng.randint(400, 3_000), rng.choice(list(ContextFormat))
        options = ContextOptions(budget=budget, form=form)
        context = build_context(answer.hits, query=answer.query, assembly=assembly, options=options)
        assert context.tokens <= budget
        for citation in context.citations:
            cited += 1
            source = texts[citation.source, citation.doc_id]
            assert source[citation.start : citation.end] == citation.text
    assert cited >= contexts


def test_cited_spans_of_60_random_contexts_re_slice(sample_store: tuple[Path, Done]) -> None:
    check(sample_store[0], contexts=60, seed=0)


@pytest.mark.slow
def test_cited_spans_of_1000_random_contexts_re_slice(sample_store: tuple[Path, Done]) -> None:
    check(sample_store[0], contexts=1_000, seed=1)
