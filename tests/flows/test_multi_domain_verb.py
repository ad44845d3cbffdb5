"""`moeret index --multi-domain`: a document in doubt lies in several domains, and is one document."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.program import Run

DOUBT = "heart and skin"
KNOWN = ("heart", "skin")
"""Two domains that hold the same: nobody can tell which of them a third such document is of."""


@pytest.fixture
def inbox(moeret: Run, tmp_path: Path) -> Path:
    """A folder with a document that may be of either domain of the store, and was indexed so."""
    for domain in KNOWN:
        (tmp_path / "corpus" / domain).mkdir(parents=True)
        (tmp_path / "corpus" / domain / f"{domain}.txt").write_text(DOUBT)
    assert moeret("index", "corpus").code == 0
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "doubt.txt").write_text(DOUBT)
    assert moeret("index", "inbox/*", "--multi-domain").code == 0
    return tmp_path / "inbox"


def documents(moeret: Run) -> Counter[str]:
    """How many documents each domain has, less the one that it began with."""
    found = moeret("status", "--json").records()[0]["domains"]
    return +Counter({one["domain"]: one["documents"] - (one["domain"] in KNOWN) for one in found})


def test_a_document_in_doubt_lies_in_two_domains_and_is_found_once(moeret: Run, inbox: Path) -> None:
    assert documents(moeret) == Counter(heart=1, skin=1)
    done = moeret("query", DOUBT, *(word for name in KNOWN for word in ("-d", name)), "--json", "--explain")
    (hit,) = [one for one in done.records() if one["doc_id"] == "doubt.txt"]
    assert {hit["domain"], *hit["why"]["copies"]} == {"heart", "skin"}


@pytest.mark.parametrize("words", [["--multi-domain"], []])
def test_the_second_run_has_nothing_to_do(moeret: Run, inbox: Path, words: list[str]) -> None:
    (told,) = moeret("index", "inbox/*", *words, "--json").records()
    assert (told["encoded"], told["unchanged"], told["shared"], told["generation"]) == (0, 1, 1, 2)


def test_what_is_gone_leaves_every_domain_and_is_counted_once(moeret: Run, inbox: Path) -> None:
    (inbox / "doubt.txt").unlink()
    done = moeret("index", "inbox/*", "--prune")
    assert "0 documents (0 unchanged, 1 removed)" in done.out
    assert documents(moeret) == Counter()


def test_copies_stay_through_a_rename(moeret: Run, inbox: Path) -> None:
    assert moeret("domains", "rename", "heart", "cardio").code == 0
    (told,) = moeret("index", "inbox/*", "--multi-domain", "--json").records()
    assert (told["encoded"], told["unchanged"], told["shared"]) == (0, 1, 1)


@pytest.mark.parametrize("words", [["--multi-domain"], []])
def test_the_copies_of_a_removed_domain_are_gone_and_the_next_runs_agree(
    moeret: Run, inbox: Path, words: list[str]
) -> None:
    assert moeret("domains", "remove", "heart", "--yes").code == 0
    assert documents(moeret) == Counter(skin=1)
    assert moeret("index", "inbox/*", *words).code == 0
    assert documents(moeret) == Counter(skin=1)
    assert moeret("index", "inbox/*", *words, "--json").records()[0]["encoded"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inbox", "--multi-domain"], "next: name the files: moeret index 'inbox/*' --multi-domain"),
        (["inbox/*", "--multi-domain", "--domain", "heart"], "next: leave one of them out"),
        (["inbox/*", "--multi-domain", "--domain-field", "kind"], "next: leave one of them out"),
    ],
)
def test_where_no_document_can_be_in_doubt_it_is_refused(
    moeret: Run, inbox: Path, words: list[str], said: str
) -> None:
    done = moeret("index", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
