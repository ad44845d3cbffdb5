"""Exported graphs on disk: what is shared is stored once, what is damaged is exported again."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moe_retrieval.encoder import Encoder
from moe_retrieval.engines.choice import choose_engine
from moe_retrieval.engines.graph_cache import Graph, GraphCache
from moe_retrieval.errors import MissingExtraError, UsageError
from moe_retrieval.types import EngineName, Precision

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 1_000_003


def graph(seed: int) -> Graph:
    """Weights that differ from those of other seeds in one stretch only."""
    weights = np.random.default_rng(0).integers(0, 255, SIZE, dtype=np.uint8)
    weights[50_000:90_000] = np.random.default_rng(seed).integers(0, 255, 40_000, dtype=np.uint8)
    weights[-1] = seed
    return Graph(f"graph {seed}".encode(), weights)


def never() -> Graph:
    raise AssertionError("exported although it was stored")


def same(one: Graph, other: Graph) -> bool:
    return one.text == other.text and np.array_equal(one.weights, other.weights)


def test_a_stored_graph_is_not_exported_again(tmp_path: Path) -> None:
    GraphCache(tmp_path, names=["a"]).get("general", lambda: graph(1))
    assert same(GraphCache(tmp_path, names=["a"]).get("general", never), graph(1))
    with pytest.raises(AssertionError, match="exported"):
        GraphCache(tmp_path, names=["another model"]).get("general", never)


def test_shared_weights_are_stored_once(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path, names=["a"])
    for seed in range(5):
        cache.get(f"expert{seed}", lambda seed=seed: graph(seed))
    assert len(list(cache.folder.glob("*.weights"))) == 1
    assert sum(file.stat().st_size for file in cache.folder.glob("*.delta")) < 4 * 60_000
    for seed in range(5):
        assert same(cache.get(f"expert{seed}", never), graph(seed))


def test_a_graph_of_another_size_is_stored_whole(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path, names=["a"])
    other = Graph(b"other", np.arange(100, dtype=np.uint8))
    cache.get("general", lambda: graph(1))
    cache.get("worded", lambda: other)
    assert same(cache.get("worded", never), other)


@pytest.mark.parametrize("name", ["one.json", "one.graph", "one.delta", "general.weights"])
@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_a_damaged_file_is_exported_again(tmp_path: Path, name: str, damage: str) -> None:
    cache = GraphCache(tmp_path, names=["a"])
    cache.get("general", lambda: graph(1))
    cache.get("one", lambda: graph(2))
    file = cache.folder / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    match damage:
        case "gone":
            file.unlink()
        case "cut":
            file.write_bytes(data[: len(data) // 2])
        case _:
            file.write_bytes(data)
    assert same(cache.get("one", lambda: graph(2)), graph(2))
    assert same(cache.get("one", never), graph(2))
    assert same(cache.get("general", lambda: graph(1)), graph(1))


def test_what_is_done_to_a_graph_that_was_read_stays_out_of_its_file(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path, names=["a"])
    for name, seed in (("general", 1), ("one", 2)):
        cache.get(name, lambda seed=seed: graph(seed))
    for name, seed in (("general", 1), ("one", 2)):
        cache.get(name, never).weights[:] = 0
        assert same(cache.get(name, never), graph(seed))


def test_threads_that_export_at_once_leave_a_sound_cache(tmp_path: Path) -> None:
    def once(at: int) -> bool:
        cache = GraphCache(tmp_path, names=["a"])
        return same(cache.get(f"expert{at % 3}", lambda: graph(at % 3)), graph(at % 3))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(once, range(24)))
    cache = GraphCache(tmp_path, names=["a"])
    assert all(same(cache.get(f"expert{at}", never), graph(at)) for at in range(3))


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = GraphCache(tmp_path / "file", names=["a"])
    assert same(cache.get("general", lambda: graph(1)), graph(1))
    assert tmp_path not in cache.folder.parents
    folder = cache.folder
    del cache
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("wanted", "more", "chosen"),
    [
        (EngineName.AUTO, {}, EngineName.OPENVINO),
        (EngineName.AUTO, {"device": "cuda:0"}, EngineName.TORCH),
        (EngineName.AUTO, {"learned": True}, EngineName.TORCH),
        (EngineName.AUTO, {"precision": Precision.INT8}, EngineName.ONNX),
        (EngineName.TORCH, {}, EngineName.TORCH),
        (EngineName.ONNX, {"precision": Precision.FP32}, EngineName.ONNX),
    ],
)
def test_the_engine_follows_device_format_and_gate(
    wanted: EngineName, more: dict[str, object], chosen: EngineName
) -> None:
    given = {"device": "cpu", "precision": Precision.BF16, "learned": False} | more
    assert choose_engine(wanted, **given) is chosen


@pytest.mark.parametrize(
    ("wanted", "more", "said"),
    [
        (EngineName.OPENVINO, {"precision": Precision.INT8}, "does not compute in int8"),
        (EngineName.ONNX, {"precision": Precision.BF16}, "does not compute in bf16"),
        (EngineName.OPENVINO, {"device": "cuda"}, "on the device cuda"),
        (EngineName.ONNX, {"learned": True, "precision": Precision.FP32}, "learned gate"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(wanted: EngineName, more: dict[str, object], said: str) -> None:
    given = {"device": "cpu", "precision": Precision.BF16, "learned": False} | more
    with pytest.raises(UsageError, match=said):
        choose_engine(wanted, **given)


def test_an_engine_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"moeret\[openvino\]"):
        choose_engine(EngineName.OPENVINO, device="cpu", precision=Precision.FP32, learned=False)
    chosen = choose_engine(EngineName.AUTO, device="cpu", precision=Precision.FP32, learned=False)
    assert chosen is EngineName.ONNX


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_once_exported_a_graph_needs_no_torch(tiny_model: Path, tmp_path: Path, engine: str) -> None:
    code = (
        "import sys; from pathlib import Path; from moe_retrieval import Encoder\n"
        f"encoder = Encoder.load({str(tiny_model)!r}, engine={engine!r}, precision='fp32', device='cpu',"
        f" cache=Path({str(tmp_path)!r}))\n"
        "assert encoder.encode_query(['pain']).shape == (1, 32)\n"
        "sys.stdout.write(str('torch' in sys.modules or 'transformers' in sys.modules))"
    )
    seen = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert seen == ["True", "False"]


def test_a_mapped_graph_computes_what_the_exported_one_does(tiny_model: Path, tmp_path: Path) -> None:
    """And goes on when its files are deleted."""
    texts = ["pain", "aspirin lowers the risk of stroke", "asthma"]
    exported, mapped = (
        Encoder.load(tiny_model, engine=EngineName.OPENVINO, precision=Precision.FP32, cache=tmp_path)
        for _ in range(2)
    )
    first = exported.encode_query(texts)
    assert np.array_equal(mapped.encode_query(texts), first)
    shutil.rmtree(tmp_path)
    gc.collect()
    assert np.array_equal(mapped.encode_query(texts * 8)[:3], mapped.encode_query(texts * 8)[-3:])
    assert np.array_equal(mapped.encode_query(texts), first)


def test_a_query_after_an_index_loads_no_torch(sample_store_by_graph: Path) -> None:
    """The whole way of the command line, routed, by the engine that `auto` chooses."""
    code = (
        "import sys; from moeret_cli import app\n"
        "sys.argv = ['moeret', 'query', 'aspirin', '-k', '1', '-q']\n"
        "assert app.run() == 0\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    import os

    env = os.environ | {"MOERET_ENGINE": "auto", "MOERET_STORE": str(sample_store_by_graph)}
    env["MOERET_CACHE"] = str(sample_store_by_graph.parent / "graphs")
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def sample_store_by_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two domains of a few texts, indexed with the engine that `auto` chooses."""
    from tests.program import run_moeret

    monkeypatch.setenv("MOERET_ENGINE", "auto")
    monkeypatch.setenv("MOERET_CACHE", str(tmp_path / "graphs"))
    for domain, text in (("cvd", "aspirin and stroke"), ("skin", "sunburn and moles")):
        (tmp_path / "corpus" / domain).mkdir(parents=True)
        (tmp_path / "corpus" / domain / "one.txt").write_text(f"{text}. " * 20)
    done = run_moeret("index", tmp_path / "corpus", "--store", tmp_path / "store", "-q")
    assert done.code == 0, done.err
    return tmp_path / "store"
