"""`moeret model`: what each verb prints, writes and refuses."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moe_retrieval import Encoder
from moe_retrieval.model import surgery
from tests.program import run_moeret
from tests.tiny_model import build_tiny, different

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model: cvd and skin differ, lung is a copy of cvd, stroke uses general's copy."""
    folder = tmp_path_factory.mktemp("verbs")
    tiny = build_tiny(folder / "tiny", "bert")
    model = different(surgery.upcycle(tiny), "cvd", "skin")
    surgery.add_expert(model, "lung", source="cvd")
    surgery.add_expert(model, "stroke")
    for domain in ("cvd", "skin", "lung", "stroke"):
        surgery.assign(model, domain, domain)
    return surgery.save(model, folder / "made", like=tiny)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "mpnet", "modernbert"])
def test_upcycle_writes_a_model_that_computes_what_its_base_does(tmp_path: Path, family: str) -> None:
    tiny = build_tiny(tmp_path / "tiny", family, layers=4)
    done = run_moeret(
        "model",
        "upcycle",
        tiny,
        "--domains",
        "cvd, skin",
        "--layers",
        "every:2",
        "-o",
        tmp_path / "new",
        "--json",
    )
    assert done.code == 0, done.err
    told = done.records()[0]
    assert told["moe_layers"] == [1, 3]
    assert list(told["experts"]) == ["general", "cvd", "skin"]
    assert told["domains"] == {"cvd": "cvd", "skin": "skin"}
    assert told["parameters"] - told["active"] == 2 * told["experts"]["cvd"]
    texts = ["aspirin and stroke", ""]
    base = Encoder.load(tiny, precision="fp32", device="cpu").encode_document(texts)
    made = Encoder.load(tmp_path / "new", precision="fp32", device="cpu").encode_document(texts, domain="cvd")
    np.testing.assert_allclose(made, base, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--routing", "domain_token"], "domain_token"),
        (["--routing", "token", "--top-k", "2"], "token, top 2"),
        (["--routing", "index", "--rank", "4", "--layers", "single"], "in layers: 1 of 2"),
    ],
)
def test_upcycle_takes_a_routing_and_a_rank(
    tmp_path: Path, tiny_model: Path, words: list[str], said: str
) -> None:
    done = run_moeret("model", "upcycle", tiny_model, "--domains", "cvd", *words, "-o", tmp_path / "new")
    assert done.code == 0, done.err
    assert said in done.out
    assert Encoder.load(tmp_path / "new").encode_document(["pain"], domain="cvd").shape == (1, 32)


def test_info_tells_parameters_experts_and_fingerprints(made: Path) -> None:
    told = run_moeret("model", "info", made, "--json").records()[0]
    encoder = Encoder.load(made)
    assert told["fingerprints"] == {
        domain: encoder.fingerprint(domain) for domain in ("general", "cvd", "lung", "skin", "stroke")
    }
    assert told["fingerprints"]["cvd"] == told["fingerprints"]["lung"]  # equal weights are one space
    assert told["parameters"] == sum(weight.numel() for weight in surgery.load(made).parameters())
    shown = run_moeret("model", "info", made).out
    assert "routing      index" in shown
    assert "skin" in shown


def test_info_of_the_bundled_model_imports_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from moe_retrieval.models import model_info\n"
        "info = model_info('bundled'); assert info.parameters == 22_565_376, info.parameters\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_experts_names_a_planted_duplicate(made: Path) -> None:
    done = run_moeret("model", "experts", made, "--json")
    pairs = {(pair["one"], pair["other"]): pair for pair in done.records()}
    assert len(pairs) == 10
    assert {names for names, pair in pairs.items() if pair["duplicate"]} == {
        ("cvd", "lung"),
        ("general", "stroke"),
    }
    assert pairs["cvd", "skin"]["distance"] > 0.1
    assert pairs["cvd", "skin"]["output"] < 0.99
    shown = run_moeret("model", "experts", made)
    assert "lung computes what cvd does: one of them can be dropped" in shown.err


def test_an_exported_expert_is_imported_into_another_model(made: Path, tmp_path: Path) -> None:
    pack = run_moeret("model", "export-expert", made, "skin", "-o", tmp_path / "packs").out.strip()
    tiny = build_tiny(tmp_path / "tiny", "bert")
    done = run_moeret("model", "import-expert", tiny, pack, "--domain", "derma", "-o", tmp_path / "new")
    assert done.code == 0, done.err
    ours = Encoder.load(tmp_path / "new", precision="fp32").encode_document(["sun"], domain="derma")
    wanted = Encoder.load(made, precision="fp32").encode_document(["sun"], domain="skin")
    np.testing.assert_allclose(ours, wanted, atol=1e-6)
    again = run_moeret(
        "model", "import-expert", tmp_path / "new", pack, "--domain", "derma", "-o", tmp_path / "more"
    )
    assert again.code == 2
    assert "has an expert for 'derma' already" in again.err


def test_onnx_writes_a_graph_that_onnxruntime_runs(made: Path, tmp_path: Path) -> None:
    import onnxruntime

    done = run_moeret("model", "onnx", made, "--domain", "skin", "-o", tmp_path / "graph")
    assert done.code == 0, done.err
    session = onnxruntime.InferenceSession(done.out.strip())
    ids = np.array([[2, 9, 12, 3]])
    hidden = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    import torch

    model = surgery.load(made)
    with torch.no_grad():
        out = model(input_ids=torch.from_numpy(ids), domain="skin").last_hidden_state
    np.testing.assert_allclose(hidden, out.numpy(), atol=1e-5)


def broken(made: Path, folder: Path, what: str) -> Path:
    """A copy of a model that is spoilt in one way."""
    shutil.copytree(made, folder)
    weights = folder / "model.safetensors"
    match what:
        case "pickled":
            weights.unlink()
            (folder / "pytorch_model.bin").write_bytes(b"x")
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "unknown family":
            said = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps({**said, "model_type": "gpt2"}))
        case _:
            (folder / "config.json").unlink()
    return folder


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("pickled", "as a pickle"),
        ("truncated", "not a readable safetensors file"),
        ("unknown family", "bert, roberta, xlm-roberta, mpnet, modernbert"),
        ("no model", "has no config.json"),
    ],
)
def test_a_spoilt_model_gets_a_sentence(made: Path, tmp_path: Path, what: str, said: str) -> None:
    done = run_moeret("model", "info", broken(made, tmp_path / "spoilt", what))
    assert done.code == 1
    assert said in done.err


def test_impossible_orders_get_a_sentence(made: Path, tmp_path: Path, tiny_model: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("x")
    pack = run_moeret("model", "export-expert", made, "cvd", "-o", tmp_path / "packs").out.strip()
    other = build_tiny(tmp_path / "other", "bert", seed=9)
    orders: list[tuple[list[object], int, str]] = [
        (["upcycle", tiny_model, "-o", full], 2, "is there already"),
        (["upcycle", tiny_model, "--layers", "7", "-o", tmp_path / "a"], 2, "moe_layers must be"),
        (["upcycle", tiny_model, "--layers", "most", "-o", tmp_path / "b"], 2, "'most' is not one of"),
        (["upcycle", tiny_model, "--routing", "guess", "-o", tmp_path / "c"], 2, "'guess' is not one of"),
        (["upcycle", tmp_path / "none", "-o", tmp_path / "d"], 1, "no model folder"),
        (["export-expert", made, "skinn", "-o", tmp_path / "packs"], 3, "did you mean 'skin'"),
        (["import-expert", other, pack, "-d", "cvd", "-o", tmp_path / "e"], 4, "was trained on"),
        (["onnx", made, "-d", "skinn", "-o", tmp_path / "f"], 3, "did you mean 'skin'"),
        (["experts", made, "--texts", tmp_path / "none.txt"], 2, "cannot be read"),
    ]
    for words, code, said in orders:
        done = run_moeret("model", *words)
        assert (done.code, said in done.err) == (code, True), (words, done.err)


def test_a_pack_with_one_flipped_bit_is_refused(made: Path, tmp_path: Path, tiny_model: Path) -> None:
    from pathlib import Path

    pack = Path(run_moeret("model", "export-expert", made, "cvd", "-o", tmp_path).out.strip())
    data = bytearray((pack / "expert.safetensors").read_bytes())
    data[-1] ^= 1
    (pack / "expert.safetensors").write_bytes(data)
    done = run_moeret("model", "import-expert", tiny_model, pack, "-d", "cvd", "-o", tmp_path / "new")
    assert done.code == 1
    assert "has sha256" in done.err
