"""`moeret route` says where a text is searched, and why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moe_retrieval.router import Router
from tests.program import Done, run_moeret

if TYPE_CHECKING:
    import numpy as np

    from moe_retrieval.router_choice import Choice


def test_a_question_goes_where_its_answer_is(sample_store: tuple[Path, Done]) -> None:
    store, _ = sample_store
    done = run_moeret("route", "does aspirin lower the risk of stroke?", "--store", str(store), "--json")
    found = json.loads(done.out)
    assert done.code == 0
    assert found["routes"][0]["domain"] == max(found["chances"], key=lambda one: one["probability"])["domain"]
    assert len(found["chances"]) == 5
    assert found["abstained"] is False
    assert found["nearest"] == []


def test_explained_it_shows_all_domains_the_router_and_the_nearest_chunks(
    sample_store: tuple[Path, Done],
) -> None:
    store, _ = sample_store
    done = run_moeret("route", "inhaled steroids for smokers", "--store", str(store), "--explain")
    assert done.code == 0
    assert done.out.count("nearest: ") == 3
    assert "of generation 1" in done.out


def test_the_wanted_probability_decides_how_many_domains_are_searched(
    sample_store: tuple[Path, Done],
) -> None:
    store, _ = sample_store
    few, all_of_them = (
        json.loads(run_moeret("route", "a treatment", "--mass", mass, "--store", str(store), "--json").out)[
            "routes"
        ]
        for mass in ("0.1", "1")
    )
    assert (len(few), len(all_of_them)) == (1, 5)


def test_an_empty_text_gets_a_sentence(sample_store: tuple[Path, Done]) -> None:
    store, _ = sample_store
    done = run_moeret("route", "  ", "--store", str(store))
    assert done.code == 2
    assert "the query is empty" in done.err


def test_one_domain_needs_no_choice(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("aspirin thins the blood", "utf8")
    store = str(tmp_path / "store")
    run_moeret("index", str(tmp_path / "a.txt"), "--domain", "cvd", "--store", store)
    found = json.loads(run_moeret("route", "aspirin", "--store", store, "--json").out)
    assert [one["domain"] for one in found["routes"]] == ["cvd"]


def test_two_domains_of_one_document_each_are_both_searched_in_doubt(tmp_path: Path) -> None:
    for domain, text in (("cvd", "aspirin thins the blood"), ("eye", "glaucoma raises pressure")):
        (tmp_path / "corpus" / domain).mkdir(parents=True)
        (tmp_path / "corpus" / domain / "a.txt").write_text(text, "utf8")
    store = str(tmp_path / "store")
    run_moeret("index", str(tmp_path / "corpus"), "--store", store)
    done = run_moeret("route", "lemon cake", "--mass", "1", "--store", store, "--json")
    assert {one["domain"] for one in json.loads(done.out)["routes"]} == {"cvd", "eye"}


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text is like none of the domains."""
    choose = Router.choose

    def abstaining(self: Router, vector: np.ndarray, text: str, *, mass: float | None = None) -> Choice:
        found = choose(self, vector, text, mass=mass)
        return replace(found, limit=found.energy + 1)

    monkeypatch.setattr(Router, "choose", abstaining)


def test_a_query_that_is_like_none_of_the_domains_says_so(
    sample_store: tuple[Path, Done], strange: None
) -> None:
    store = str(sample_store[0])
    plain = run_moeret("query", "the gears of a bicycle", "-k", "1", "--store", store)
    assert "the question is like none of the domains: all were searched" in plain.err
    explained = run_moeret("query", "the gears of a bicycle", "-k", "1", "--store", store, "--explain")
    assert "(like none of the domains, so all are searched; generation 1)" in explained.out
    named = run_moeret("query", "the gears of a bicycle", "-k", "1", "--store", store, "-d", "cvd")
    assert (named.code, named.err) == (0, "")


def test_of_many_queries_it_says_how_many_were_like_none(
    sample_store: tuple[Path, Done], strange: None
) -> None:
    lines = b'{"_id": "1", "text": "gears"}\n{"_id": "2", "text": "chess"}\n'
    words = ["--queries", "-", "-k", "1", "--store", str(sample_store[0]), "--json"]
    done = run_moeret("query", *words, stdin=lines)
    assert [one["query_id"] for one in done.records()] == ["1", "2"]
    assert "2 of 2 questions are like none of the domains, and were searched in all" in done.err
