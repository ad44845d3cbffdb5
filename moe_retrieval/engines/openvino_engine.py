"""Graphs run by OpenVINO: on a CPU the fastest way, with bf16 where the CPU multiplies it."""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.engines.batches import Budget
from moe_retrieval.engines.graph_cache import Graph, GraphCache
from moe_retrieval.engines.tracing import quiet, traceable
from moe_retrieval.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from moe_retrieval.model.packs import Pack
    from moe_retrieval.model.source import ModelSource


def load_openvino() -> Any:
    """OpenVINO without its usage reports, which importing it would send from a forked process: where their
    package cannot be imported, OpenVINO does without.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


class OpenVinoRuntime:
    """Compiles each expert's graph for this CPU; one infer request per thread."""

    # measured with MiniLM on 2 cores: 1,024 to 8,192 tokens are within a tenth of each other; a new length
    # costs new kernels, and rounding lengths up won 15% over a mixed corpus
    budget = Budget(tokens=4_096, texts=64, multiple=16)

    def __init__(self, source: ModelSource, *, trunk: str, precision: Precision, cache: Path | None) -> None:
        openvino = load_openvino()
        self._source = source
        self._core = openvino.Core()
        self._cache = GraphCache(cache, names=["openvino", openvino.__version__, source.family, trunk])
        hint = "bf16" if precision is Precision.BF16 else "f32"
        self._shared: list[NDArray[np.uint8]] = []  # what compiled graphs point into, and do not own
        self._options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}

    def open(self, expert: str, place: Pack | int) -> Callable[..., NDArray[np.float32]]:
        """The expert's graph, compiled for this CPU."""
        openvino = load_openvino()
        graph = self._cache.get(expert, lambda: self._export(place))
        # not a copy: weights that are a mapped file are read into no memory of this process
        self._shared.append(graph.weights)
        weights = openvino.Tensor(graph.weights, shared_memory=True)
        model = self._core.read_model(graph.text.decode(), weights=weights)
        compiled = self._core.compile_model(model, "CPU", self._options)
        local = threading.local()

        def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
            if not hasattr(local, "request"):
                local.request = compiled.create_infer_request()
            return np.asarray(local.request.infer([ids, mask])[0], np.float32)

        return run

    def _export(self, place: Pack | int) -> Graph:
        import torch

        openvino = load_openvino()
        model, example = traceable(self._source, place)
        with tempfile.TemporaryDirectory() as folder, quiet(), torch.no_grad():
            converted: Any = openvino.convert_model(model, example_input=example)
            file = Path(folder) / "graph.xml"
            openvino.save_model(converted, file, compress_to_fp16=False)
            return Graph(file.read_bytes(), np.fromfile(file.with_suffix(".bin"), np.uint8))
