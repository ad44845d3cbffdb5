"""Packs, words, tokens, low rank and growth travel with their expert, and arrive whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moe_retrieval import Encoder
from moe_retrieval.errors import BadVectorError, ModelError, ModelMismatchError, UsageError
from moe_retrieval.model import extend, surgery
from tests.tiny_model import FAMILIES, build_tiny, build_tiny_bert, different

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = ["", "heartattack", "a trial of a drug against heartattack", "joint pain"]


def trained_low_rank(model: Any) -> None:
    surgery.add_domain(model, "cvd", rank=4)
    for name, weight in model.named_parameters():
        if name.endswith(".up"):
            weight.data.normal_(0, 0.2)


def grown(model: Any) -> None:
    different(model, "cvd")
    extend.grow(model, "cvd")
    for _, layer in model.expert_layers:
        layer.experts[1].growth.weight.data.normal_(0, 0.1)


def worded(model: Any) -> None:
    different(model, "cvd")
    extend.add_words(model, "cvd", {"heartattack": [7, 8], "sunburn": [20]})
    model.input_rows[1].words.data.normal_()


KINDS: dict[str, Callable[[Any], object]] = {
    "full": lambda model: different(model, "cvd"),
    "low-rank": trained_low_rank,
    "grown": grown,
    "worded": worded,
}


@pytest.mark.parametrize("layers", [None, [1]])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_pack_gives_the_vectors_of_the_model_it_came_from(
    tmp_path: Path, family: str, kind: str, layers: list[int] | None
) -> None:
    tiny = build_tiny(tmp_path / "tiny", family)
    model = surgery.upcycle(tiny, moe_layers=layers)
    KINDS[kind](model)
    surgery.assign(model, "cvd", "cvd")
    sha = surgery.export_expert(model, "cvd", tmp_path / "packs")
    folder = surgery.save(model, tmp_path / "saved", like=tiny)
    inside = Encoder.load(folder, precision="fp32", device="cpu")
    packed = Encoder.load(tiny, experts={"cvd": tmp_path / "packs" / sha}, precision="fp32", device="cpu")
    ours, theirs = (encoder.encode_document(TEXTS, domain="cvd") for encoder in (packed, inside))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(ours - packed.encode_document(TEXTS)).max() > 0.01
    other = surgery.upcycle(tiny)
    surgery.import_expert(other, tmp_path / "packs" / sha, name="cvd")
    surgery.assign(other, "cvd", "cvd")
    again = Encoder.load(surgery.save(other, tmp_path / "other", like=tiny), precision="fp32", device="cpu")
    np.testing.assert_allclose(again.encode_document(TEXTS, domain="cvd"), theirs, atol=1e-5)


def test_a_low_rank_pack_of_the_bundled_encoder_is_under_a_megabyte(tmp_path: Path) -> None:
    from moe_retrieval.engines.bundled import bundled_source

    model = surgery.upcycle(bundled_source().folder)
    surgery.add_domain(model, "cvd", rank=8)
    sha = surgery.export_expert(model, "cvd", tmp_path)
    assert 100_000 < (tmp_path / sha / "expert.safetensors").stat().st_size < 1_000_000


def test_a_low_rank_pack_needs_the_very_weights_it_is_added_to(tmp_path: Path) -> None:
    tiny = build_tiny_bert(tmp_path / "tiny")
    model = surgery.upcycle(tiny)
    trained_low_rank(model)
    sha = surgery.export_expert(model, "cvd", tmp_path)
    changed = surgery.upcycle(tiny)
    changed.encoder.layer[0].experts[0].output["dense"].bias.data += 1
    with pytest.raises(ModelMismatchError, match="was trained on"):
        surgery.import_expert(changed, tmp_path / sha, name="cvd")


def prints(folder: Path) -> dict[str, str]:
    encoder = Encoder.load(folder, device="cpu")
    return {domain: encoder.fingerprint(domain) for domain in ("general", "cvd", "skin")}


@pytest.mark.parametrize("routing", ["index", "domain_token"])
def test_what_an_expert_grows_changes_its_fingerprint_and_no_other(tmp_path: Path, routing: str) -> None:
    tiny = build_tiny_bert(tmp_path / "tiny")
    model = different(surgery.upcycle(tiny), "cvd", "skin")
    for domain in ("cvd", "skin"):
        surgery.assign(model, domain, domain)
    extend.set_routing(model, routing, first_token=2)
    seen = [prints(surgery.save(model, tmp_path / "0", like=tiny))]
    changes: list[Callable[[], object]] = [
        lambda: extend.add_words(model, "cvd", {"heartattack": [7, 8]}),
        lambda: model.input_rows[1].words.data.add_(1e-3),
        lambda: extend.grow(model, "cvd"),
        lambda: model.encoder.layer[1].experts[1].intermediate["dense"].bias.data[0].add_(1e-4),
    ]
    if routing == "domain_token":
        changes.append(lambda: model.input_rows[1].token.data.add_(1e-3))
    for at, change in enumerate(changes, start=1):
        change()
        seen.append(prints(surgery.save(model, tmp_path / str(at), like=tiny)))
    assert len({one["cvd"] for one in seen}) == len(seen)
    assert {one["general"] for one in seen} == {seen[0]["general"]}
    assert {one["skin"] for one in seen} == {seen[0]["skin"]}
    surgery.add_domain(model, "lung")
    assert prints(surgery.save(model, tmp_path / "more", like=tiny)) == seen[-1]


def test_under_a_learned_gate_every_expert_decides_every_vector(tmp_path: Path) -> None:
    tiny = build_tiny_bert(tmp_path / "tiny")
    model = different(surgery.upcycle(tiny), "cvd", "skin")
    extend.set_routing(model, "sentence")
    one = prints(surgery.save(model, tmp_path / "one", like=tiny))
    assert len(set(one.values())) == 1
    model.encoder.layer[1].experts[2].output["dense"].bias.data[0] += 1e-4
    assert prints(surgery.save(model, tmp_path / "two", like=tiny))["general"] != one["general"]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_of_one_domain_holds_one_experts_weights(tmp_path: Path, family: str) -> None:
    tiny = build_tiny(tmp_path / "tiny", family)
    model = different(surgery.upcycle(tiny), "cvd", "skin")
    packs = {name: tmp_path / surgery.export_expert(model, name, tmp_path) for name in ("cvd", "skin")}
    encoder = Encoder.load(tiny, experts=packs, engine="torch", precision="fp32", device="cpu")
    encoder.encode_document(TEXTS, domain="cvd")
    held = encoder._engine.get(encoder._load_engine)._model  # type: ignore[attr-defined]
    dense = sum(weight.numel() for weight in surgery.upcycle(tiny).parameters())
    assert sum(weight.numel() for weight in held.parameters()) == dense
    encoder.encode_document(TEXTS, domain="skin")
    one = sum(weight.numel() for _, layer in held.expert_layers for weight in layer.experts[0].parameters())
    assert sum(weight.numel() for weight in held.parameters()) == dense + one


def test_domains_are_added_renamed_and_dropped(tmp_path: Path) -> None:
    tiny = build_tiny_bert(tmp_path / "tiny")
    model = surgery.upcycle(tiny)
    surgery.add_domain(model, "cvd")
    surgery.add_domain(model, "stroke", source="cvd")
    surgery.assign(model, "heart", "cvd")
    surgery.rename_domain(model, "stroke", "brain")
    assert (model.config.experts, model.config.domains) == (
        ["general", "cvd", "brain"],
        {"cvd": "cvd", "brain": "brain", "heart": "cvd"},
    )
    surgery.drop_domain(model, "cvd")  # heart uses its expert, too
    assert model.config.experts == ["general", "cvd", "brain"]
    surgery.drop_domain(model, "heart")
    assert (model.config.experts, model.config.domains) == (["general", "brain"], {"brain": "brain"})
    with pytest.raises(UsageError, match="did you mean 'brain'"):
        surgery.drop_domain(model, "brian")
    with pytest.raises(UsageError, match="already"):
        surgery.rename_domain(model, "brain", "brain")


def test_impossible_growth_is_refused() -> None:
    from tests.unit.model.family_models import upcycled

    model = upcycled("bert", "cvd")
    extend.grow(model, "cvd")
    extend.add_words(model, "cvd", {"stent": [9]})
    for change, said in (
        (lambda: extend.grow(model, "cvd"), "already"),
        (lambda: extend.add_words(model, "cvd", {"stent": [9]}), "'stent' cannot be added"),
        (lambda: extend.add_words(model, "general", {"stent": [9]}), "general cannot"),
        (lambda: extend.set_routing(model, "sentence"), "learned gate"),
        (lambda: extend.set_routing(model, "guess"), "'guess' is not one of"),
        (lambda: extend.set_routing(model, "domain_token"), "first token"),
        (lambda: surgery.add_expert(model, "x", source="cvd", rank=4), "delta to general"),
    ):
        with pytest.raises(UsageError, match=said):
            change()


def test_an_expert_with_nan_is_named_when_it_is_used(tmp_path: Path) -> None:
    tiny = build_tiny_bert(tmp_path / "tiny")
    model = different(surgery.upcycle(tiny), "cvd")
    model.encoder.layer[0].experts[1].output["dense"].weight.data.fill_(float("nan"))
    sha = surgery.export_expert(model, "cvd", tmp_path)
    encoder = Encoder.load(tiny, experts={"cvd": tmp_path / sha}, device="cpu")
    assert encoder.encode_document(["pain"]).shape == (1, 32)
    with pytest.raises(BadVectorError, match="not finite"):
        encoder.encode_document(["pain"], domain="cvd")


def test_a_learned_gate_takes_no_packs(tmp_path: Path) -> None:
    tiny = build_tiny_bert(tmp_path / "tiny")
    model = different(surgery.upcycle(tiny), "cvd")
    sha = surgery.export_expert(model, "cvd", tmp_path)
    extend.set_routing(model, "token")
    folder = surgery.save(model, tmp_path / "gated", like=tiny)
    with pytest.raises(UsageError, match="learned gate"):
        Encoder.load(folder, experts={"cvd": tmp_path / sha})


def test_a_tokenizer_without_a_first_token_has_no_domain_tokens(tmp_path: Path) -> None:
    file = build_tiny_bert(tmp_path) / "tokenizer.json"
    assert extend.first_token_of(file) == 2
    file.write_text('{"post_processor": null}')
    with pytest.raises(ModelError, match="no token before a text"):
        extend.first_token_of(file)
