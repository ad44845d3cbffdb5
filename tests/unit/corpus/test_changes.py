"""What changed since the last run."""

from __future__ import annotations

import numpy as np

from moe_retrieval.corpus.changes import Change, ChangeLog, KnownDocuments


def known(domain: str, *rows: tuple[int, int, bool]) -> KnownDocuments:
    keys, hashes, complete = zip(*rows, strict=True) if rows else ((), (), ())
    return KnownDocuments(
        domain, np.array(keys, np.int64), np.array(hashes, np.int64), np.array(complete, np.bool_)
    )


def log() -> ChangeLog:
    return ChangeLog(
        [known("cvd", (9, 90, True), (3, 30, True), (5, 50, False)), known("copd", (7, 70, True))]
    )


def test_a_document_nobody_knows_is_new() -> None:
    assert log().classify(4, 40, "cvd") is Change.NEW


def test_the_same_content_is_unchanged_and_other_content_is_changed() -> None:
    changes = log()
    assert changes.classify(3, 30, "cvd") is Change.UNCHANGED
    assert changes.classify(9, 91, "cvd") is Change.CHANGED


def test_a_document_that_a_killed_run_left_in_part_is_changed() -> None:
    assert log().classify(5, 50, "cvd") is Change.CHANGED


def test_a_document_in_another_domain_is_moved_whatever_its_content() -> None:
    changes = log()
    assert changes.classify(7, 70, "cvd") is Change.MOVED
    assert changes.homes(7) == ("copd",)


def test_a_copy_left_in_another_domain_counts_as_moved() -> None:
    changes = ChangeLog([known("a", (1, 10, True)), known("b", (1, 10, True))])
    assert changes.classify(1, 10, "a") is Change.MOVED
    assert changes.homes(1) == ("a", "b")


def in_two_domains(*, other: int = -10) -> ChangeLog:
    return ChangeLog([known("a", (1, -10, True), (2, 20, True)), known("b", (1, other, True))])


def test_a_document_of_several_domains_is_unchanged_where_all_hold_it_so() -> None:
    assert in_two_domains().classify(1, -10, "a", "b") is Change.UNCHANGED
    assert in_two_domains().classify(1, -10, "b", "a") is Change.UNCHANGED


def test_a_document_that_lacks_one_of_its_domains_or_differs_there_is_changed() -> None:
    assert in_two_domains().classify(1, -10, "a", "b", "c") is Change.CHANGED
    assert in_two_domains(other=-11).classify(1, -10, "a", "b") is Change.CHANGED


def test_a_document_that_leaves_one_of_its_domains_is_moved() -> None:
    changes = in_two_domains()
    assert changes.classify(1, -10, "b") is Change.MOVED
    assert changes.holds(1, -10, "b")
    assert not changes.holds(1, -11, "b")
    assert (changes.is_shared(1), changes.is_shared(2), changes.is_shared(3)) == (True, False, False)


def test_the_second_time_in_a_run_is_a_duplicate() -> None:
    changes = log()
    for key in (4, 3):
        changes.classify(key, 1, "cvd")
        assert changes.classify(key, 1, "cvd") is Change.DUPLICATE


def test_unseen_keys_are_those_no_document_of_the_run_had() -> None:
    changes = log()
    changes.classify(3, 31, "cvd")
    changes.classify(7, 70, "cvd")
    assert changes.unseen("cvd").tolist() == [5, 9]
    assert changes.unseen("copd").tolist() == []
    assert changes.unseen("nowhere").dtype == np.int64


def test_an_empty_store_knows_nothing() -> None:
    changes = ChangeLog([])
    assert changes.classify(1, 1, "cvd") is Change.NEW
    assert changes.homes(1) == ()
    assert changes.unseen("cvd").tolist() == []


def test_a_million_documents_are_compared_in_seconds() -> None:
    keys = np.random.default_rng(0).permutation(1_000_000).astype(np.int64)
    changes = ChangeLog([KnownDocuments("cvd", keys, keys * 2, np.ones(len(keys), np.bool_))])
    sample = keys[:20_000].tolist()
    assert all(changes.classify(key, key * 2, "cvd") is Change.UNCHANGED for key in sample)
    assert len(changes.unseen("cvd")) == 980_000
