"""Routes hold the wanted probability, and the probabilities are honest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_retrieval.errors import ChecksumError, ModelError, UsageError
from moe_retrieval.router import Router

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("copd", "cvd", "skin")


def clouds(
    count: int = 240, *, noise: float = 0.25, seed: int = 0
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Unit vectors around three centres, their domains, and document keys shared by pairs of rows."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(3, 16))
    places = np.arange(count) // 2 % 3
    vectors = centres[places] + generator.normal(size=(count, 16)) * noise * np.sqrt(16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), [NAMES[place] for place in places], np.arange(count) // 2


@pytest.fixture(scope="module")
def router() -> Router:
    vectors, labels, groups = clouds()
    return Router.fit(vectors, labels, groups=groups)


def test_new_texts_go_to_their_domain(router: Router) -> None:
    vectors, labels, _ = clouds(seed=1)
    best = [router.route(vector, at_most=1)[0].domain for vector in vectors]
    assert np.mean([one == other for one, other in zip(best, labels, strict=True)]) > 0.9


def test_probabilities_are_as_sure_as_they_are_right() -> None:
    vectors, labels, groups = clouds(900, noise=0.9)
    fitted = Router.fit(vectors, labels, groups=groups)
    fresh, truth, _ = clouds(900, noise=0.9, seed=5)
    chances = fitted.probabilities(fresh)
    right = np.array(fitted.domains)[chances.argmax(axis=1)] == np.array(truth)
    assert abs(chances.max(axis=1).mean() - right.mean()) < 0.06


def test_each_row_of_probabilities_sums_to_one(router: Router) -> None:
    np.testing.assert_allclose(router.probabilities(clouds()[0]).sum(axis=1), 1)


@given(mass=st.floats(0.01, 1.0), seed=st.integers(0, 50))
def test_the_routes_are_the_fewest_that_hold_the_mass(router: Router, mass: float, seed: int) -> None:
    vector = np.random.default_rng(seed).normal(size=16).astype(np.float32)
    routes = router.route(vector, mass=mass)
    chances = [route.probability for route in routes]
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) >= mass - 1e-8
    assert sum(chances[:-1]) < mass


def test_at_most_limits_the_routes(router: Router) -> None:
    assert len(router.route(np.zeros(16, np.float32), mass=1.0, at_most=2)) == 2


def test_ties_go_by_name() -> None:
    even = Router(("b", "a"), np.zeros((2, 4)), np.zeros(2), np.zeros((2, 4), np.float32), np.arange(2))
    assert [route.domain for route in even.route(np.ones(4, np.float32), mass=1.0)] == ["a", "b"]


def test_one_domain_is_always_the_route() -> None:
    vectors, _, groups = clouds(6)
    routes = Router.fit(vectors, ["cvd"] * 6, groups=groups).route(vectors[0])
    assert [(route.domain, route.probability) for route in routes] == [("cvd", 1.0)]


def test_two_domains_are_told_apart() -> None:
    vectors, labels, groups = clouds()
    two = [place for place, label in enumerate(labels) if label != "skin"]
    fitted = Router.fit(vectors[two], [labels[place] for place in two], groups=groups[two])
    best = np.array(fitted.domains)[fitted.probabilities(vectors[two]).argmax(axis=1)]
    assert (best == np.array(labels)[two]).mean() > 0.9


def test_domains_of_a_single_document_leave_the_temperature_alone() -> None:
    vectors, labels, groups = clouds(6)
    fitted = Router.fit(vectors, labels, groups=groups)
    assert (fitted.linear, fitted.near) == pytest.approx((0.3, 14.0))


def test_a_domain_with_a_single_document_does_not_leave_the_others_untried() -> None:
    vectors, labels, groups = clouds(60)
    fitted = Router.fit(vectors, ["lone", "lone", *labels[2:]], groups=groups)
    assert len(fitted.documents.chances) == 29
    assert "lone" in fitted.domains


def test_fitting_twice_gives_the_same_router(router: Router, tmp_path: Path) -> None:
    vectors, labels, groups = clouds()
    assert Router.fit(vectors, labels, groups=groups).save(tmp_path) == router.save(tmp_path)


def test_a_saved_router_routes_as_before(router: Router, tmp_path: Path) -> None:
    again = Router.load(tmp_path / f"{router.save(tmp_path)}.safetensors")
    vectors = clouds()[0]
    assert again.domains == router.domains
    # not bit for bit: how memory is aligned decides the order of a sum
    np.testing.assert_allclose(again.probabilities(vectors), router.probabilities(vectors), atol=1e-12)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_changed_file_is_refused(router: Router, tmp_path: Path) -> None:
    path = tmp_path / f"{router.save(tmp_path)}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChecksumError):
        Router.load(path)


@pytest.mark.parametrize("data", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_is_no_router_is_refused(tmp_path: Path, data: bytes) -> None:
    import hashlib

    path = tmp_path / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="not a router"):
        Router.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.safetensors"):
        Router.load(tmp_path / "gone.safetensors")


@pytest.mark.parametrize(("mass", "at_most"), [(0.0, None), (1.1, None), (float("nan"), None), (0.9, 0)])
def test_an_impossible_wish_is_refused(router: Router, mass: float, at_most: int | None) -> None:
    with pytest.raises(UsageError):
        router.route(np.ones(16, np.float32), mass=mass, at_most=at_most)


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(UsageError, match="0 vectors"):
        Router.fit(np.zeros((0, 4), np.float32), [], groups=np.zeros(0, np.int64))
