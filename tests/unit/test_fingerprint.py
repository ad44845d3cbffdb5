"""What changes a domain's vectors changes its fingerprint; nothing else does."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from moe_retrieval.encoder import Encoder
from moe_retrieval.fingerprint import FingerprintParts, domain_fingerprint
from moe_retrieval.model import surgery
from tests.tiny_model import build_tiny_bert, different

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.model.bert import MoEBertModel

PARTS = FingerprintParts("trunk", "expert", "tokenizer", "", "", "mean", 256, 384)
DOMAINS = ("general", "cvd", "skin", "copd")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bert(tmp_path_factory.mktemp("fingerprint") / "tiny")


@pytest.fixture
def model(tiny: Path) -> MoEBertModel:
    """cvd and skin have experts of their own; copd has none."""
    made = different(surgery.upcycle(tiny), "cvd", "skin")
    for name in ("cvd", "skin"):
        surgery.assign(made, name, name)
    return made


def prints(folder: Path, **options: Any) -> list[str]:
    encoder = Encoder.load(folder, **options)
    return [encoder.fingerprint(domain) for domain in DOMAINS]


def changed(before: list[str], after: list[str]) -> set[str]:
    return {name for name, old, new in zip(DOMAINS, before, after, strict=True) if old != new}


@pytest.mark.parametrize("name", [field.name for field in fields(FingerprintParts)])
def test_every_part_counts(name: str) -> None:
    value = getattr(PARTS, name)
    other = {str: "other", int: 7, bool: not value}[type(value)]
    assert domain_fingerprint(replace(PARTS, **{name: other})) != domain_fingerprint(PARTS)


def test_the_fingerprint_of_the_same_parts_never_changes() -> None:
    """Stores hold these: a release that changes it makes every table stale."""
    wanted = "ac357c9704db34a8833f80b38457b8e8473bd3fedfd8b61fff40e741616bb1e1"
    assert domain_fingerprint(PARTS) == wanted


def test_domains_without_an_expert_share_generals_space(
    model: MoEBertModel, tiny: Path, tmp_path: Path
) -> None:
    general, cvd, skin, copd = prints(surgery.save(model, tmp_path, like=tiny))
    assert general == copd
    assert len({general, cvd, skin}) == 3


def test_a_dense_folder_has_the_general_space_of_its_upcycled_folder(
    model: MoEBertModel, tiny: Path, tmp_path: Path
) -> None:
    assert prints(surgery.save(model, tmp_path, like=tiny))[0] == prints(tiny)[0]


@pytest.mark.parametrize(("expert", "stale"), [(1, {"cvd"}), (2, {"skin"}), (0, {"general", "copd"})])
def test_one_changed_weight_of_an_expert_makes_only_its_domains_stale(
    model: MoEBertModel, tiny: Path, tmp_path: Path, expert: int, stale: set[str]
) -> None:
    before = prints(surgery.save(model, tmp_path / "a", like=tiny))
    model.encoder.layer[0].experts[expert].intermediate.dense.weight.data[0, 0] += 1e-4
    assert changed(before, prints(surgery.save(model, tmp_path / "b", like=tiny))) == stale


def test_a_changed_trunk_makes_every_domain_stale(model: MoEBertModel, tiny: Path, tmp_path: Path) -> None:
    before = prints(surgery.save(model, tmp_path / "a", like=tiny))
    model.encoder.layer[0].attention.self.query.weight.data[0, 0] += 1e-4
    assert changed(before, prints(surgery.save(model, tmp_path / "b", like=tiny))) == set(DOMAINS)


@pytest.mark.parametrize(
    "options", [{"max_length": 16}, {"query_prompt": "q: "}, {"document_prompt": "d: "}, {"pooling": "cls"}]
)
def test_a_changed_option_makes_every_domain_stale(tiny: Path, options: dict[str, Any]) -> None:
    assert changed(prints(tiny), prints(tiny, **options)) == set(DOMAINS)


def test_precision_and_device_do_not_count(tiny: Path) -> None:
    assert prints(tiny, precision="bf16", device="cpu") == prints(tiny)


def test_adding_an_expert_leaves_every_other_fingerprint(
    model: MoEBertModel, tiny: Path, tmp_path: Path
) -> None:
    before = prints(surgery.save(model, tmp_path / "a", like=tiny))
    different(model, "lung")
    surgery.assign(model, "copd", "lung")
    assert changed(before, prints(surgery.save(model, tmp_path / "b", like=tiny))) == {"copd"}


def test_an_untrained_copy_of_general_is_the_same_space(
    model: MoEBertModel, tiny: Path, tmp_path: Path
) -> None:
    before = prints(surgery.save(model, tmp_path / "a", like=tiny))
    surgery.add_expert(model, "lung")
    surgery.assign(model, "copd", "lung")
    assert changed(before, prints(surgery.save(model, tmp_path / "b", like=tiny))) == set()
