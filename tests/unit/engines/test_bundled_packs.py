"""The experts that ship with the package: sound, small, of the bundled encoder, with a card that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moe_retrieval import Encoder
from moe_retrieval.engines.packaged import bundled_experts
from moe_retrieval.model.packs import open_pack

if TYPE_CHECKING:
    from pathlib import Path

EXPERTS = bundled_experts()


def test_there_are_some() -> None:
    assert EXPERTS


@pytest.mark.parametrize(("name", "folder"), sorted(EXPERTS.items()))
def test_a_bundled_expert_passed_the_gate_and_says_so(name: str, folder: Path) -> None:
    pack = open_pack(folder)  # its bytes are those that the folder's name promises
    assert pack.weights.stat().st_size < 1_000_000
    notes = pack.card.notes
    (verdict,) = notes["verdicts"]
    assert (verdict["domain"], verdict["accepted"]) == (name, True)
    assert verdict["test"]["low"] > 0
    assert notes["licence"].startswith("MIT")
    card = (folder / "README.md").read_text("utf-8")
    assert f"{verdict['test']['low']:+.4f} to {verdict['test']['high']:+.4f}" in card
    assert notes["base"] == "all-MiniLM-L6-v2"


def test_bundled_experts_fit_the_bundled_encoder_and_change_its_vectors() -> None:
    encoder = Encoder.load(experts=EXPERTS, engine="torch", precision="fp32")
    assert set(encoder.domains) == set(EXPERTS)
    texts = ["chemotherapy and survival in advanced lung cancer"]
    general = encoder.encode_document(texts)
    for name in EXPERTS:
        cosine = float((encoder.encode_document(texts, domain=name) * general).sum())
        assert 0.5 < cosine < 0.9999, name
    np.testing.assert_allclose(encoder.encode_document(texts), general, atol=1e-6)
