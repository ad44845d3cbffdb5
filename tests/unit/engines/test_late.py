"""An engine that is loaded early is loaded once, and what goes wrong early is said by the first text."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moe_retrieval.encoder import Encoder
from moe_retrieval.engines.batches import Budget
from moe_retrieval.engines.late import LateEngine
from moe_retrieval.errors import ModelError
from moe_retrieval.types import GENERAL, EngineName, Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PATIENCE = 60.0


class Noting:
    """An engine that notes which experts were prepared."""

    budget = Budget(100, 10)

    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.done = threading.Event()

    def prepare(self, expert: str) -> None:
        self.prepared.append(expert)
        self.done.set()

    def embed(self, token_ids: Sequence[Sequence[int]], *, experts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(experts), len(token_ids), 4), np.float32)


def test_whoever_asks_while_it_loads_gets_the_one_engine() -> None:
    loaded: list[Noting] = []
    begun, go_on = threading.Event(), threading.Event()

    def load() -> Noting:
        begun.set()
        assert go_on.wait(PATIENCE)
        loaded.append(Noting())
        return loaded[-1]

    late = LateEngine()
    late.prepare("a", load)
    assert begun.wait(PATIENCE)
    threading.Timer(0.05, go_on.set).start()
    assert late.get(load) is loaded[0]
    assert loaded[0].done.wait(PATIENCE)
    assert len(loaded) == 1


def test_an_expert_is_prepared_once() -> None:
    engine = Noting()
    late = LateEngine()
    for expert in ("a", "a", "b"):
        late.prepare(expert, lambda: engine)
        assert engine.done.wait(PATIENCE)
    until = time.monotonic() + PATIENCE
    while len(engine.prepared) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert sorted(engine.prepared) == ["a", "b"]


def test_what_failed_early_is_tried_again_and_said() -> None:
    tried: list[int] = []
    failed = threading.Event()

    def load() -> Noting:
        tried.append(len(tried))
        failed.set()
        raise ModelError("no such device", hint="another")

    late = LateEngine()
    late.prepare("a", load)
    assert failed.wait(PATIENCE)
    with pytest.raises(ModelError, match="no such device"):
        late.get(load)
    assert len(tried) == 2


@pytest.mark.parametrize("engine", [EngineName.TORCH, EngineName.OPENVINO, EngineName.ONNX])
def test_a_prepared_encoder_gives_the_same_vectors(
    tiny_model: Path, tmp_path: Path, engine: EngineName
) -> None:
    texts = ["pain", "aspirin lowers the risk of stroke", "asthma"]
    plain, early = (
        Encoder.load(tiny_model, engine=engine, precision=Precision.FP32, device="cpu", cache=tmp_path)
        for _ in range(2)
    )
    expected = plain.encode_document(texts)
    early.prepare(GENERAL)
    assert np.array_equal(early.encode_document(texts), expected)
