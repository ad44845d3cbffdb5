"""Sets hold what they promise, questions teach a router, and what is like nothing known is said to be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moe_retrieval.errors import UsageError
from moe_retrieval.router import Router
from moe_retrieval.router_choice import ENOUGH, Held, Kind, choose
from moe_retrieval.router_queries import KnownQueries, fit_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUTERS = Path(__file__).parents[1] / "fixtures" / "store-format-1" / "routers"
NAMES = ("copd", "cvd", "eye", "skin")
CENTRES = np.random.default_rng(7).normal(size=(4, 16))
ASIDE = np.random.default_rng(8).normal(size=16) * 1.2  # where questions lie, seen from documents
FAR = -CENTRES.sum(axis=0)


def texts(count: int, *, seed: int, noise: float = 1.0, aside: float = 0.0) -> tuple[np.ndarray, list[str]]:
    """Unit vectors around the centre of their domain."""
    generator = np.random.default_rng(seed)
    places = generator.integers(0, 4, count)
    vectors = CENTRES[places] + aside * ASIDE + generator.normal(size=(count, 16)) * noise
    return unit(vectors), [NAMES[place] for place in places]


def unit(vectors: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled.astype(np.float32)


def known(vectors: np.ndarray, labels: Sequence[str]) -> KnownQueries:
    """Questions without a word."""
    return KnownQueries.of([""] * len(labels), vectors, domains=labels)


@pytest.fixture(scope="module")
def router() -> Router:
    vectors, labels = texts(2_000, seed=1)
    return Router.fit(vectors, labels, groups=np.arange(2_000))


@pytest.fixture(scope="module")
def taught(router: Router) -> Router:
    vectors, labels = texts(600, seed=2, noise=1.2, aside=1.0)
    return router.asked(known(vectors, labels))


@pytest.mark.parametrize("mass", [0.8, 0.9, 0.95, 0.98])
def test_the_right_domain_of_a_document_is_taken_as_often_as_promised(router: Router, mass: float) -> None:
    vectors, labels = texts(2_000, seed=3)
    floor = covered(router, vectors, labels, mass=1e-9, of=Kind.DOCUMENT)  # one domain is always taken
    found = covered(router, vectors, labels, mass=mass, of=Kind.DOCUMENT)
    assert mass - 0.03 < found < max(mass + 0.03, floor + 0.01)


@pytest.mark.parametrize("mass", [0.9, 0.95, 0.98])
def test_the_right_domain_of_a_question_is_taken_as_often_as_promised(taught: Router, mass: float) -> None:
    vectors, labels = texts(2_000, seed=4, noise=1.2, aside=1.0)
    assert covered(taught, vectors, labels, mass=mass, of=Kind.QUERY) > mass - 0.03


def test_sets_are_smaller_than_those_that_hold_as_much_by_their_sum(router: Router) -> None:
    vectors, labels = texts(1_500, seed=5)
    ours = [router.choose(vector, mass=0.95, of=Kind.DOCUMENT).routes for vector in vectors]
    scores = router.scores(vectors, of=Kind.DOCUMENT)
    sums = [choose(router.domains, row, held=Held(), mass=0.95).routes for row in scores]
    assert covered(router, vectors, labels, mass=0.95, of=Kind.DOCUMENT) > 0.92
    assert np.mean([len(one) for one in ours]) < np.mean([len(one) for one in sums])


def test_questions_make_a_router_better_at_questions(router: Router, taught: Router) -> None:
    vectors, labels = texts(1_000, seed=6, noise=1.2, aside=1.0)
    before = np.mean([best(router, one) == label for one, label in zip(vectors, labels, strict=True)])
    after = np.mean([best(taught, one) == label for one, label in zip(vectors, labels, strict=True)])
    assert after > before + 0.02


def test_questions_leave_the_routing_of_documents_alone(router: Router, taught: Router) -> None:
    vectors, _ = texts(50, seed=9)
    np.testing.assert_array_equal(
        router.probabilities(vectors, of=Kind.DOCUMENT), taught.probabilities(vectors, of=Kind.DOCUMENT)
    )


def test_a_text_like_no_domain_is_abstained_from(router: Router) -> None:
    far = unit(FAR + np.random.default_rng(0).normal(size=(200, 16)) * 0.3)
    known, _ = texts(1_000, seed=10)
    assert np.mean([router.choose(one, of=Kind.DOCUMENT).abstained for one in far]) > 0.9
    assert np.mean([router.choose(one, of=Kind.DOCUMENT).abstained for one in known]) < 0.03


def test_nothing_is_called_unknown_by_who_knows_no_questions(router: Router) -> None:
    choice = router.choose(unit(FAR))
    assert (choice.limit, choice.threshold, choice.abstained) == (None, None, False)


def test_a_set_is_never_empty() -> None:
    held = Held(np.full(ENOUGH, 0.99), np.zeros(ENOUGH))
    choice = choose(("a", "b"), np.zeros(2), held=held, mass=0.5)
    assert [route.domain for route in choice.routes] == ["a"]


@pytest.mark.parametrize("mass", [5e-324, 1e-15, 1e-3])
def test_next_to_no_certainty_takes_one_domain(taught: Router, mass: float) -> None:
    assert len(taught.route(texts(1, seed=0)[0][0], mass=mass)) == 1
    assert len(taught.route(texts(1, seed=0)[0][0], mass=mass, of=Kind.DOCUMENT)) == 1


@pytest.mark.parametrize("mass", [0.0, -1.0, 1.0001, float("nan")])
def test_a_mass_that_is_no_share_is_refused(taught: Router, mass: float) -> None:
    with pytest.raises(UsageError, match="mass is above 0, up to 1"):
        taught.choose(texts(1, seed=0)[0][0], mass=mass)


def test_certainty_takes_every_domain(taught: Router) -> None:
    assert len(taught.route(texts(1, seed=0)[0][0], mass=1.0)) == 4


def test_few_questions_are_kept_but_teach_nothing(router: Router) -> None:
    vectors, labels = texts(ENOUGH - 1, seed=2)
    few = router.asked(known(vectors, labels))
    assert len(few.queries.domains) == ENOUGH - 1
    assert not few.queries.fitted
    np.testing.assert_array_equal(few.probabilities(vectors), router.probabilities(vectors))


def test_questions_of_other_domains_are_left_out(router: Router) -> None:
    vectors, labels = texts(80, seed=2)
    left = router.asked(known(vectors, ["law" if one == "eye" else one for one in labels])).queries
    assert set(left.domains) == {"copd", "cvd", "skin"}


def test_a_domain_that_was_never_asked_about_is_neither_favoured_nor_slighted(router: Router) -> None:
    cosines = known(unit(CENTRES[:3]), NAMES[:3]).nearest(unit(CENTRES), NAMES)
    np.testing.assert_allclose(cosines[:, 3], cosines[:, :3].mean(axis=1), atol=1e-6)


def test_a_domain_whose_chunks_lie_near_every_question_is_set_back() -> None:
    """As where it has many more chunks than the others; `eye` was never asked about."""
    generator = np.random.default_rng(3)
    targets = generator.integers(0, 3, 300)
    asked = [("copd", "cvd", "skin")[place] for place in targets]
    near = generator.normal(scale=0.1, size=(300, 4))
    near[np.arange(300), np.array([0, 1, 3])[targets]] += 0.3
    near[:, 0] += 0.3
    fitted = fit_queries(
        known(unit(generator.normal(size=(300, 16))), asked),
        domains=NAMES,
        logits=np.zeros((300, 4)),
        near=near,
        begin=(0.3, 14.0, 7.0, 1.0),
    )
    copd, cvd, eye, skin = fitted.offsets.tolist()
    assert copd < min(cvd, skin) - 1
    assert eye == 0
    assert copd + cvd + skin == pytest.approx(0)


def test_a_saved_router_knows_its_questions_and_its_limits(taught: Router, tmp_path: Path) -> None:
    again = Router.load(tmp_path / f"{taught.save(tmp_path)}.safetensors")
    vectors, _ = texts(100, seed=11, aside=1.0)
    for one in vectors:
        for kind in Kind:
            now, then = again.choose(one, of=kind), taught.choose(one, of=kind)
            assert [route.domain for route in now.routes] == [route.domain for route in then.routes]
            assert (now.limit, now.threshold) == (then.limit, then.threshold)
    assert again.save(tmp_path) == taught.save(tmp_path)


def test_a_renamed_domain_keeps_its_questions(taught: Router, tmp_path: Path) -> None:
    renamed = taught.renamed("eye", "ophthalmology")
    again = Router.load(tmp_path / f"{renamed.save(tmp_path)}.safetensors")
    assert again.domains == ("copd", "cvd", "ophthalmology", "skin")
    assert again.queries.domains.count("ophthalmology") == taught.queries.domains.count("eye") > 0


@pytest.mark.parametrize("path", sorted(ROUTERS.glob("*.safetensors")), ids=lambda path: path.name[:6])
def test_a_router_of_an_older_version_still_routes(path: Path) -> None:
    old = Router.load(path)
    routes = old.route(old.exemplars[0])
    assert routes[0].domain in old.domains
    assert old.choose(old.exemplars[0]).threshold is None


def best(router: Router, vector: np.ndarray, *, of: Kind = Kind.QUERY) -> str:
    return router.route(vector, at_most=1, of=of)[0].domain


def covered(router: Router, vectors: np.ndarray, labels: list[str], *, mass: float, of: Kind) -> float:
    chosen = [router.route(vector, mass=mass, of=of) for vector in vectors]
    inside = [label in {one.domain for one in each} for each, label in zip(chosen, labels, strict=True)]
    return float(np.mean(inside))
