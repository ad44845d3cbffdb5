"""A saved folder is a SentenceTransformer with domains: the same vectors as the Encoder's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moe_retrieval import Encoder
from moe_retrieval.errors import ModelError
from moe_retrieval.model import extend, surgery
from tests.tiny_model import FAMILIES, build_tiny, different

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = ["", "aspirin", "the risk of stroke in smoking", "a skin cell", "joint pain and fever, a trial"]


def saved(
    folder: Path, family: str = "bert", *, change: Callable[[Any], None] = bool, head: Any = None
) -> Path:
    """A model folder with experts for cvd and skin."""
    tiny = build_tiny(folder / "tiny", family)
    model = different(surgery.upcycle(tiny), "cvd", "skin")
    for domain in ("cvd", "skin"):
        surgery.assign(model, domain, domain)
    change(model)
    return surgery.save(model, folder / "saved", like=tiny, head=head)


def opened(folder: Path) -> Any:
    """Opened as its card says: trusting our modules only where sentence-transformers has none that do."""
    from sentence_transformers import SentenceTransformer

    import moe_retrieval.integrations.huggingface

    assert len(moe_retrieval.integrations.huggingface.MODELS) == len(FAMILIES)
    ours = "moe_retrieval" in (folder / "modules.json").read_text()
    return SentenceTransformer(str(folder), device="cpu", trust_remote_code=ours)


def same(folder: Path, domain: str | None = None, texts: list[str] = TEXTS) -> np.ndarray:
    """The vectors, after a comparison of both ways."""
    chosen = {} if domain is None else {"domain": domain}
    theirs = opened(folder).encode(texts, **chosen)
    ours = Encoder.load(folder, precision="fp32", device="cpu").encode_document(texts, **chosen)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
    return np.asarray(theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_encoders_vectors(tmp_path: Path, family: str) -> None:
    folder = saved(tmp_path, family)
    general, cvd, skin = same(folder), same(folder, "cvd"), same(folder, "skin")
    assert np.abs(general - cvd).max() > 0.01
    assert np.abs(cvd - skin).max() > 0.01


def test_encode_query_takes_a_domain_and_the_prompt(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    prompts = {"prompts": {"query": "risk of ", "document": ""}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    theirs = opened(folder).encode_query(TEXTS, domain="cvd")
    encoder = Encoder.load(folder, precision="fp32", device="cpu")
    np.testing.assert_allclose(theirs, encoder.encode_query(TEXTS, domain="cvd"), atol=1e-5)
    assert np.abs(theirs - encoder.encode_document(TEXTS, domain="cvd")).max() > 0.01


def test_an_unknown_domain_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no domain 'cvdd'"):
        opened(saved(tmp_path)).encode(TEXTS, domain="cvdd")


def test_words_of_a_domain_are_its_tokens_here_too(tmp_path: Path) -> None:
    def grown(model: Any) -> None:
        extend.add_words(model, "cvd", {"heartattack": [7, 8]})

    folder = saved(tmp_path, change=grown)
    texts = ["risk of a heartattack", "heartattack", "stroke"]
    assert np.abs(same(folder, "cvd", texts) - same(folder, "skin", texts)).max() > 0.01


def test_a_learned_gate_needs_no_domain(tmp_path: Path) -> None:
    def learned(model: Any) -> None:
        extend.set_routing(model, "token", top_k=2)

    same(saved(tmp_path, change=learned))


def test_what_sentence_transformers_saves_opens_again(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    opened(folder).save_pretrained(str(tmp_path / "again"))
    before = opened(folder).encode(TEXTS, domain="skin")
    np.testing.assert_array_equal(opened(tmp_path / "again").encode(TEXTS, domain="skin"), before)
    ours = Encoder.load(tmp_path / "again", precision="fp32", device="cpu").encode_document(
        TEXTS, domain="skin"
    )
    np.testing.assert_allclose(ours, before, atol=1e-5)


def head(outputs: int = 12) -> Any:
    from moe_retrieval.model.head import PoolingHead

    torch.manual_seed(3)
    made = PoolingHead(32, 24, outputs)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return made


def test_the_pooling_head_follows_in_both(tmp_path: Path) -> None:
    folder = saved(tmp_path, head=head())
    assert same(folder, "cvd").shape == (len(TEXTS), 12)
    assert Encoder.load(folder).dim == 12


def test_the_head_is_part_of_every_fingerprint(tmp_path: Path) -> None:
    plain = Encoder.load(saved(tmp_path / "plain"))
    headed = Encoder.load(saved(tmp_path / "headed", head=head()))
    for domain in ("general", "cvd", "skin"):
        assert plain.fingerprint(domain) != headed.fingerprint(domain)


def test_a_head_of_another_width_or_cut_short_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, head=head())
    file = folder / "2_Head" / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    with pytest.raises(ModelError, match="cannot be read"):
        Encoder.load(folder)
    file.write_bytes(whole)
    said = json.loads((folder / "2_Head" / "config.json").read_text())
    (folder / "2_Head" / "config.json").write_text(json.dumps({**said, "outputs": 13}))
    with pytest.raises(ModelError, match="no head from 32 to 13"):
        Encoder.load(folder)


def test_a_card_tells_what_the_model_is_and_a_users_own_text_stays(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: sentence-transformers\n")
    assert "- experts: general, cvd, skin" in card
    (folder / "README.md").write_text("my own words")
    surgery.save(surgery.load(folder), folder, like=folder)
    assert (folder / "README.md").read_text() == "my own words"
    same(folder, "cvd")
