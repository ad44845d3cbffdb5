"""Graphs run by onnxruntime: fp32, or weights in int8 where the user asks for it."""

from __future__ import annotations

import tempfile
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

_OPSET = 18
_WEIGHTS = "weights"
"""Name under which a graph refers to its weights, beside it."""


class OnnxRuntime:
    """Opens each expert's graph in onnxruntime; a session may be run from several threads."""

    budget = Budget(tokens=2_048, texts=64)

    def __init__(self, source: ModelSource, *, trunk: str, precision: Precision, cache: Path | None) -> None:
        import onnxruntime

        self._source = source
        self._int8 = precision is Precision.INT8
        kind = "int8" if self._int8 else "fp32"
        names = ["onnx", onnxruntime.__version__, kind, source.family, trunk]
        self._cache = GraphCache(cache, names=names)

    def open(self, expert: str, place: Pack | int) -> Callable[..., NDArray[np.float32]]:
        """The expert's graph in a session of its own."""
        import onnxruntime

        graph = self._cache.get(expert, lambda: self.export(place))
        with tempfile.TemporaryDirectory() as folder:
            file = write_graph(graph, Path(folder))
            session: Any = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

        def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
            hidden = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
            return np.asarray(hidden, np.float32)

        return run

    def export(self, place: Pack | int) -> Graph:
        """The graph of an expert; its weights are one block of bytes that the graph refers to."""
        with tempfile.TemporaryDirectory() as name, quiet():
            file = _export(self._source, place, Path(name))
            return _detached(_quantized(file) if self._int8 else file)


def write_graph(graph: Graph, folder: Path) -> Path:
    """Write `model.onnx` and its weights to a folder; returns the former's path."""
    graph.weights.tofile(folder / _WEIGHTS)
    (folder / "model.onnx").write_bytes(graph.text)
    return folder / "model.onnx"


def _export(source: ModelSource, place: Pack | int, folder: Path) -> Path:
    import torch

    model, example = traceable(source, place)
    file = folder / "traced.onnx"
    axes = {0: "batch", 1: "tokens"}
    torch.onnx.export(
        model,
        example,
        str(file),
        input_names=["input_ids", "attention_mask"],
        output_names=["hidden"],
        dynamic_axes=dict.fromkeys(("input_ids", "attention_mask", "hidden"), axes),
        opset_version=_OPSET,
        dynamo=False,  # the newer exporter wants onnxscript, and fixed the number of tokens
    )
    return file


def _quantized(file: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = file.with_name("int8.onnx")
    # embeddings stay as they are: in int8 they cost most of the agreement and save no time
    quantize_dynamic(
        file, target, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul"]
    )
    return target


def _detached(file: Path) -> Graph:
    """A graph without its weights, and these as one block."""
    import onnx

    model = onnx.load(str(file))
    place = file.with_name("detached.onnx")
    onnx.save_model(model, str(place), save_as_external_data=True, location=_WEIGHTS, size_threshold=1_024)
    weights = file.with_name(_WEIGHTS)
    data = np.fromfile(weights, np.uint8) if weights.is_file() else np.zeros(0, np.uint8)
    return Graph(place.read_bytes(), data)
