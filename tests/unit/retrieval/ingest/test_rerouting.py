"""A new domain is reported by what it took from the old ones."""

from __future__ import annotations

import numpy as np

from moe_retrieval.retrieval.ingest.rerouting import compare
from moe_retrieval.router import Router
from moeret_cli.wording import rerouting


def router(*names: str, of: dict[str, np.ndarray]) -> Router:
    vectors = np.concatenate([of[name] for name in names])
    labels = [name for name in names for _ in of[name]]
    return Router.fit(vectors, labels, groups=np.arange(len(vectors)))


def cloud(at: int, *, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(60, 8)) * 0.1 + np.eye(8)[at]
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32)


def test_a_domain_apart_changes_nothing() -> None:
    clouds = {"cvd": cloud(0, seed=0), "eye": cloud(1, seed=1), "law": cloud(2, seed=2)}
    found = compare(router("cvd", "eye", of=clouds), router("cvd", "eye", "law", of=clouds))
    assert (found.texts, found.changed) == (120, 0)


def test_a_domain_in_the_place_of_another_takes_texts_from_it() -> None:
    clouds = {"cvd": cloud(0, seed=0), "eye": cloud(1, seed=1), "heart": cloud(0, seed=2)}
    found = compare(router("cvd", "eye", of=clouds), router("cvd", "eye", "heart", of=clouds))
    assert found.to == {"heart": found.changed}
    assert 10 < found.changed <= 60
    assert f"{found.changed} of 120 known texts" in rerouting(found)
