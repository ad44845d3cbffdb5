"""Every family: with experts it computes what its dense model does, and each text what its expert says."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moe_retrieval.model import surgery
from moe_retrieval.model.configuration import ExpertFields, choose_layers
from tests.tiny_model import FAMILIES, WORDS, build_tiny
from tests.unit.model.family_models import TEXTS, batch, dense, hidden, upcycled

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize("family", FAMILIES)
FIELDS = [field.name for field in fields(ExpertFields)]
CHOSEN = torch.tensor([2, 0, 1, 0, 2, 1])


@pytest.mark.parametrize("said", ["all", "single", "every:2", "0,3"])
def test_an_upcycled_model_equals_the_dense_one_on_100_texts(family: str, said: str) -> None:
    ids, mask = batch(family, texts=100)
    model = surgery.upcycle(dense(family), moe_layers=choose_layers(said, count=4))
    assert len(model.expert_layers) == {"all": 4, "single": 1}.get(said, 2)
    difference = hidden(model, ids, mask) - hidden(dense(family), ids, mask)
    assert difference.abs().max() <= 1e-6


def test_hidden_states_of_every_layer_equal_the_dense_ones(family: str) -> None:
    ids, mask = batch(family)
    with torch.no_grad():
        ours, plain = (
            model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
            for model in (surgery.upcycle(dense(family)), dense(family))
        )
    assert len(ours) == len(plain) == 5
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one[mask.bool()], other[mask.bool()], atol=1e-6, rtol=0)


def with_expert(family: str, model: Any, expert: int) -> Any:
    """The dense model, its feed-forwards those of one expert: the plain loop, expert by expert."""
    import copy

    from moe_retrieval.model.memory import dense_state

    plain = copy.deepcopy(dense(family))
    missing, strange = plain.load_state_dict(dense_state(model, expert), strict=False)
    assert missing
    assert not strange
    return plain


@pytest.mark.parametrize("layers", [None, [2, 3]])
def test_each_text_of_a_mixed_batch_equals_a_dense_model_of_its_expert(
    family: str, layers: list[int] | None
) -> None:
    model = upcycled(family, "a", "b", layers=layers)
    ids, mask = batch(family)
    mixed = hidden(model, ids, mask, expert_ids=CHOSEN)
    plain = [
        hidden(with_expert(family, model, int(CHOSEN[at])), ids[at : at + 1], mask[at : at + 1])
        for at in range(TEXTS)
    ]
    torch.testing.assert_close(mixed, torch.cat(plain), atol=1e-5, rtol=1e-5)
    wrong = hidden(model, ids, mask, expert_ids=CHOSEN.roll(1))
    assert (mixed - wrong).abs().max() > 0.01


@pytest.mark.parametrize("layers", [None, [2, 3]])
def test_a_fan_out_equals_a_call_per_expert(family: str, layers: list[int] | None) -> None:
    model = upcycled(family, "a", "b", layers=layers)
    ids, mask = batch(family)
    together = hidden(model, ids, mask, fan_out=torch.tensor([0, 2, 1]))
    alone = [hidden(model, ids, mask, expert_ids=torch.full((TEXTS,), at)) for at in (0, 2, 1)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_a_fan_out_runs_the_layers_below_once(family: str) -> None:
    model = upcycled(family, "a", "b", layers=[2, 3])
    ids, mask = batch(family)
    seen: list[int] = []
    stack = model.layers if family == "modernbert" else model.encoder.layer
    for layer in stack:
        layer.register_forward_pre_hook(lambda _layer, args: seen.append(len(args[0])))
    hidden(model, ids, mask, fan_out=torch.tensor([0, 1, 2]))
    assert seen == [TEXTS, TEXTS, TEXTS, 3 * TEXTS]


def test_expert_ids_per_token_reach_each_token_alone(family: str) -> None:
    model = upcycled(family, "a", "b", layers=[3])
    ids, mask = batch(family)
    chosen = torch.randint(0, 3, ids.shape, generator=torch.Generator().manual_seed(3))
    mixed = hidden(model, ids, mask, expert_ids=chosen)
    plain = torch.stack([hidden(model, ids, mask, expert_ids=torch.full((TEXTS,), at)) for at in range(3)])
    picked = chosen[mask.bool()]  # in the last layer, no token hears of another's expert
    torch.testing.assert_close(mixed, plain[picked, torch.arange(len(picked))], atol=1e-5, rtol=1e-5)


def test_auto_model_opens_what_was_saved_and_so_does_our_loader(family: str, tmp_path: Path) -> None:
    from transformers import AutoModel

    like = build_tiny(tmp_path / "like", family)
    model = upcycled(family, "a", "b", layers=[1, 2])
    surgery.save(model, tmp_path / "saved", like=like)
    ids, mask = batch(family)
    wanted = hidden(model, ids, mask, expert_ids=CHOSEN)
    for again in (AutoModel.from_pretrained(tmp_path / "saved").eval(), surgery.load(tmp_path / "saved")):
        assert type(again) is type(model)
        assert torch.equal(hidden(again, ids, mask, expert_ids=CHOSEN), wanted)
        assert {name: getattr(again.config, name) for name in FIELDS} == {
            name: getattr(model.config, name) for name in FIELDS
        }


def test_a_saved_folder_brings_the_code_that_reads_it(family: str, tmp_path: Path) -> None:
    """A process that has never heard of this package loads the folder with trust_remote_code."""
    model = upcycled(family, "a", "b")
    model.save_pretrained(tmp_path / "saved")
    script = (
        "import sys, torch; from transformers import AutoModel\n"
        f"model = AutoModel.from_pretrained({str(tmp_path / 'saved')!r}, trust_remote_code=True).eval()\n"
        "ids = torch.arange(5, 29).view(4, 6)\n"
        "out = model(input_ids=ids, expert_ids=torch.tensor([2, 0, 1, 2])).last_hidden_state\n"
        "assert 'moe_retrieval' not in sys.modules\n"
        "sys.stdout.write(f'{out.double().abs().sum().item():.4f}')"
    )
    here = {"HF_MODULES_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | here,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        out = model(input_ids=torch.arange(5, 29).view(4, 6), expert_ids=torch.tensor([2, 0, 1, 2]))
    wanted = out.last_hidden_state.double().abs().sum().item()
    assert float(done.stdout) == pytest.approx(wanted, rel=1e-5)


def test_the_encoder_equals_transformers_with_mean_pooling(family: str, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoModel

    from moe_retrieval import Encoder

    folder = build_tiny(tmp_path, family)
    plain = AutoModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    texts = ["aspirin and the risk of stroke", "", " ".join(WORDS[:20])]
    rows = []
    for text in texts:
        with torch.no_grad():
            states = plain(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state
        rows.append(torch.nn.functional.normalize(states.mean(dim=1)))
    encoder = Encoder.load(folder, precision="fp32", device="cpu")
    np.testing.assert_allclose(encoder.encode_document(texts), torch.cat(rows).numpy(), atol=1e-5)


def test_texts_get_as_many_tokens_as_the_model_has_positions(family: str, tmp_path: Path) -> None:
    from moe_retrieval import Encoder

    folder = build_tiny(tmp_path, family, max_length=500)
    encoder = Encoder.load(folder, precision="fp32", device="cpu")
    assert encoder.max_length == {"bert": 64, "modernbert": 64}.get(family, 62)
    vectors = encoder.encode_document(["heart " * 400])
    assert np.linalg.norm(vectors) == pytest.approx(1)
