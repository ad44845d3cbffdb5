"""The matrix: each domain's texts through each expert."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moe_retrieval.corpus.collection import Collection
from moe_retrieval.corpus.pairs import Pair
from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.beir import evaluate_collection
from moe_retrieval.evaluation.intervals import Interval
from moe_retrieval.evaluation.matrix import Matrix, cross_domain
from moe_retrieval.evaluation.pairs import evaluate_pairs
from tests.tiny_model import WORDS as TINY_WORDS

if TYPE_CHECKING:
    from moe_retrieval import Encoder

WORDS = TINY_WORDS[5:21]
PAIRS = [
    Pair(f"{one} {WORDS[place - 3]}", other, ("cvd", "eye")[place % 2], int(place % 3 == 0))
    for place, (one, other) in enumerate(zip(WORDS, WORDS[1:] + WORDS[:1], strict=True))
]
COLLECTION = Collection(
    "made",
    {f"d{place}": f"{word} {WORDS[place - 5]}" for place, word in enumerate(WORDS)},
    {f"q{place}": f"{word} and {WORDS[place - 2]}" for place, word in enumerate(WORDS[:8])},
    {f"q{place}": {f"d{place + 2}": 1, f"d{place + 4}": 1} for place in range(8)},
    {f"d{place}": ("cvd", "eye")[place % 2] for place in range(16)},
    {f"q{place}": ("cvd", "eye")[place % 2] for place in range(8)},
)


def test_cells_of_pairs_are_the_auc_under_each_expert(encoder: Encoder) -> None:
    found = cross_domain(encoder, PAIRS, samples=20)
    assert (found.measure, found.domains) == ("roc_auc", ("cvd", "eye"))
    assert found.experts == ("general", "cvd", "skin")
    for column, expert in enumerate(found.experts):
        wanted = evaluate_pairs(encoder, PAIRS, domain=expert, samples=20)
        for row, domain in enumerate(found.domains):
            assert found.cells[row][column] == wanted.domains[domain]["roc_auc"]


def test_the_diagonal_of_a_collection_is_its_evaluation(encoder: Encoder) -> None:
    found = cross_domain(encoder, COLLECTION, samples=20)
    own = evaluate_collection(encoder, COLLECTION, samples=20)
    assert (found.data, found.measure) == ("made", "ndcg_10")
    assert found.cells[0][1].to_dict() == own.domains["cvd"]["ndcg_10"].to_dict()
    assert found.cells[1][0].to_dict() == own.domains["eye"]["ndcg_10"].to_dict()  # eye has general


def test_the_best_expert_of_a_row_is_found_ties_to_the_left() -> None:
    cell = [Interval(mean, mean, mean) for mean in (0.1, 0.3, 0.3)]
    found = Matrix("m", "d", "ndcg_10", ("a",), ("x", "y", "z"), (tuple(cell),))
    assert found.best(0) == 1
    assert found.to_dict()["cells"][0][1] == {"mean": 0.3, "low": 0.3, "high": 0.3}


def test_a_collection_without_domains_has_no_matrix(encoder: Encoder) -> None:
    plain = Collection("plain", COLLECTION.documents, COLLECTION.queries, COLLECTION.qrels, {}, {})
    with pytest.raises(UsageError, match="plain names no domains"):
        cross_domain(encoder, plain)
