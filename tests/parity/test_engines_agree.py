"""Exported graphs against torch: the same vectors, whatever computes them and whoever asks at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moe_retrieval import Encoder
from tests.tiny_model import FAMILIES, WORDS, build_tiny, build_tiny_bert, different

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = [
    "",
    "aspirin",
    "the risk of stroke in smoking",
    "[CLS] skin cell [SEP]",
    " ".join(WORDS * 5),
    "a trial of a drug " * 3,
]
ENGINES = ("openvino", "onnx")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Callable[..., Encoder]:
    """An encoder of a tiny model with experts for cvd and skin, by a named engine."""
    from moe_retrieval.model import surgery

    folder = tmp_path_factory.mktemp("agree")
    tiny = build_tiny_bert(folder / "tiny", seed=5)
    model = different(surgery.upcycle(tiny), "cvd", "skin")
    packs = {name: folder / surgery.export_expert(model, name, folder) for name in ("cvd", "skin")}

    def loaded(engine: str, precision: str = "fp32", place: Path = cache) -> Encoder:
        return Encoder.load(
            tiny, experts=packs, engine=engine, precision=precision, device="cpu", cache=place
        )

    return loaded


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("domain", ["general", "cvd", "skin"])
def test_a_graph_gives_the_vectors_of_torch(load: Callable[..., Encoder], engine: str, domain: str) -> None:
    plain = load("torch").encode_document(TEXTS, domain=domain)
    np.testing.assert_allclose(load(engine).encode_document(TEXTS, domain=domain), plain, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_another_expert_gives_other_vectors(load: Callable[..., Encoder], engine: str) -> None:
    """The control: were the expert not looked at, the comparison with torch would be worth nothing."""
    encoder = load(engine)
    cvd, skin = (encoder.encode_document(TEXTS, domain=domain) for domain in ("cvd", "skin"))
    assert np.abs(cvd - skin).max() > 0.05


@pytest.mark.parametrize("engine", ["torch", *ENGINES])
def test_several_experts_in_one_call_are_each_expert_alone(load: Callable[..., Encoder], engine: str) -> None:
    encoder = load(engine)
    domains = ["skin", "general", "cvd", "unknown"]
    across = encoder.encode_query_across(TEXTS, domains=domains)
    alone = np.stack([encoder.encode_query(TEXTS, domain=domain) for domain in domains])
    np.testing.assert_allclose(across, alone, atol=1e-5)


@pytest.mark.parametrize("engine", ["torch", *ENGINES])
def test_two_threads_with_different_domains_do_not_disturb_each_other(
    load: Callable[..., Encoder], engine: str
) -> None:
    encoder = load(engine)
    domains = ["general", "cvd", "skin"] * 8
    alone = {domain: encoder.encode_document(TEXTS, domain=domain) for domain in set(domains)}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda domain: load(engine).encode_document(TEXTS, domain=domain), domains[:3]))
        found = list(pool.map(lambda domain: encoder.encode_document(TEXTS, domain=domain), domains))
    for domain, vectors in zip(domains, found, strict=True):
        np.testing.assert_allclose(vectors, alone[domain], atol=1e-6)


@pytest.mark.parametrize("engine", ["torch", *ENGINES])
def test_an_empty_text_and_one_of_a_megabyte_get_unit_vectors(
    load: Callable[..., Encoder], engine: str
) -> None:
    vectors = load(engine).encode_document(["", "heart " * 175_000], domain="cvd")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_family_can_be_exported(tmp_path: Path, cache: Path, engine: str, family: str) -> None:
    folder = build_tiny(tmp_path, family, seed=2)
    plain = Encoder.load(folder, engine="torch", precision="fp32", device="cpu")
    graph = Encoder.load(folder, engine=engine, precision="fp32", device="cpu", cache=cache)
    np.testing.assert_allclose(graph.encode_document(TEXTS), plain.encode_document(TEXTS), atol=1e-5)


def cosines(one: Any, other: Any) -> Any:
    return np.sum(one * other, axis=1)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bf16_stays_close_on_the_bundled_encoder(cache: Path, engine: str) -> None:
    texts = ["does aspirin lower the risk of stroke?", "Home oxygen in COPD. " * 12, "malaria", "joint pain"]
    exact, half = (
        Encoder.load(engine=engine, precision=precision, device="cpu", cache=cache).encode_document(texts)
        for precision in ("fp32", "bf16")
    )
    assert cosines(exact, half).min() > 0.9995
    assert cosines(exact, half).mean() > 0.9998


def test_int8_is_near_and_not_the_same(load: Callable[..., Encoder]) -> None:
    exact, small = load("onnx").encode_document(TEXTS), load("onnx", "int8").encode_document(TEXTS)
    assert 0.95 < cosines(exact, small).mean() < 0.99999


def test_a_domain_token_and_words_are_part_of_the_graph(tmp_path: Path, cache: Path) -> None:
    from moe_retrieval.model import extend, surgery

    tiny = build_tiny_bert(tmp_path / "tiny")
    model = different(surgery.upcycle(tiny), "cvd")
    surgery.assign(model, "cvd", "cvd")
    extend.set_routing(model, "domain_token", first_token=extend.first_token_of(tiny / "tokenizer.json"))
    extend.add_words(model, "cvd", {"heartattack": [7, 8]})
    model.input_rows[1].token.data.normal_()
    folder = surgery.save(model, tmp_path / "saved", like=tiny)
    texts = ["heartattack risk", "risk of a heartattack", "risk"]
    found = {
        (engine, domain): Encoder.load(
            folder, engine=engine, precision="fp32", device="cpu", cache=cache
        ).encode_document(texts, domain=domain)
        for engine in ("torch", *ENGINES)
        for domain in ("cvd", "general")
    }
    for engine in ENGINES:
        for domain in ("cvd", "general"):
            np.testing.assert_allclose(found[engine, domain], found["torch", domain], atol=1e-5)
    assert np.abs(found["torch", "cvd"] - found["torch", "general"]).max() > 0.05
