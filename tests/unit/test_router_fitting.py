"""What a router is tried on: documents that it did not see."""

from __future__ import annotations

import numpy as np

from moe_retrieval.router import Router
from moe_retrieval.router_fitting import held_out


def test_few_documents_are_each_held_out_once() -> None:
    groups = np.repeat(np.arange(100), 2)
    folds = held_out(groups % 3, groups, seed=0)
    assert len(folds) == 5
    np.testing.assert_array_equal(np.sum(folds, axis=0), np.ones(200))


def test_a_document_is_never_split() -> None:
    groups = np.repeat(np.arange(40), 3)
    for held in held_out(groups % 2, groups, seed=0):
        assert not set(groups[held]) & set(groups[~held])


def test_of_many_documents_a_fifth_is_enough() -> None:
    groups = np.arange(10_000)
    folds = held_out(groups % 4, groups, seed=0)
    assert [int(held.sum()) for held in folds] == [2_000]


def test_every_domain_gives_a_fifth_of_its_documents() -> None:
    targets = np.repeat([0, 1], [50, 500])
    for held in held_out(targets, np.arange(550), seed=0):
        assert np.bincount(targets[held]).tolist() == [10, 100]


def test_the_only_document_of_a_domain_is_never_held_out() -> None:
    targets = np.array([0] * 20 + [1])
    folds = held_out(targets, np.arange(21), seed=0)
    assert len(folds) == 5
    assert not np.any(folds, axis=0)[20]


def test_two_domains_of_one_document_each_leave_nothing_to_try_on() -> None:
    assert held_out(np.array([0, 1]), np.arange(2), seed=0) == []


def test_a_hundred_documents_are_enough_for_thresholds() -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(100) % 2
    vectors = (np.eye(16)[targets] + generator.normal(size=(100, 16)) * 0.3).astype(np.float32)
    router = Router.fit(vectors, [("a", "b")[one] for one in targets], groups=np.arange(100))
    assert len(router.documents.chances) == 100
    assert router.documents.threshold(0.9) is not None
    assert router.documents.limit is not None
