"""Which engine computes: the one that was asked for, or the fastest that is installed for the device."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from moe_retrieval.errors import MissingExtraError, UsageError
from moe_retrieval.types import EngineName, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moe_retrieval.engines.engine import Engine
    from moe_retrieval.model.packs import Pack
    from moe_retrieval.model.source import ModelSource

_PACKAGES = {EngineName.OPENVINO: ("openvino", "openvino"), EngineName.ONNX: ("onnxruntime", "onnx")}
_FORMATS = {
    EngineName.TORCH: (Precision.FP32, Precision.BF16),
    EngineName.OPENVINO: (Precision.FP32, Precision.BF16),
    EngineName.ONNX: (Precision.FP32, Precision.INT8),
}


def choose_engine(wanted: EngineName, *, device: str, precision: Precision, learned: bool) -> EngineName:
    """The engine for a device and a number format.

    `auto`: torch on an accelerator and for a learned gate, whose experts no single graph holds; on a CPU
    OpenVINO, else onnxruntime (which has no bf16), else torch. int8 is onnxruntime's alone.

    Raises:
        MissingExtraError: the engine that was asked for is not installed.
        UsageError: it cannot run this model, on this device, or in this format.
    """
    if wanted is not EngineName.AUTO:
        _check(wanted, device=device, precision=precision, learned=learned)
        return wanted
    if precision is Precision.INT8:
        return choose_engine(EngineName.ONNX, device=device, precision=precision, learned=learned)
    if device != "cpu" or learned:
        return EngineName.TORCH
    for name in (EngineName.OPENVINO, EngineName.ONNX):
        if precision in _FORMATS[name] and _installed(name):
            return name
    return EngineName.TORCH


def _installed(name: EngineName) -> bool:
    return importlib.util.find_spec(_PACKAGES[name][0]) is not None


def _check(name: EngineName, *, device: str, precision: Precision, learned: bool) -> None:
    if precision not in _FORMATS[name]:
        raise UsageError(
            f"the engine {name} does not compute in {precision}",
            hint=f"it takes {' or '.join(_FORMATS[name])}",
        )
    if name is EngineName.TORCH:
        return
    if device != "cpu" or learned:
        what = f"on the device {device}" if device != "cpu" else "a model with a learned gate"
        raise UsageError(f"the engine {name} does not run {what}", hint="--engine torch")
    package, extra = _PACKAGES[name]
    if not _installed(name):
        raise MissingExtraError(package, extra=extra, purpose=f"the engine {name}")


def load_engine(
    name: EngineName,
    source: ModelSource,
    *,
    experts: Mapping[str, Pack | int],
    pooling: str,
    precision: Precision,
    device: str,
    trunk: str,
    cache: Path | None,
) -> Engine:
    """The engine, ready to embed.

    `trunk`: digest of what all experts share; `cache`: folder of exported graphs, None: the user's cache.

    Raises:
        ModelError: the device does not exist.
    """
    if name is EngineName.TORCH:
        from moe_retrieval.engines.torch_engine import TorchEngine

        return TorchEngine.load(source, experts=experts, pooling=pooling, precision=precision, device=device)
    from moe_retrieval.engines.graph_engine import GraphEngine

    if name is EngineName.OPENVINO:
        from moe_retrieval.engines.openvino_engine import OpenVinoRuntime as Runtime
    else:
        from moe_retrieval.engines.onnx_engine import OnnxRuntime as Runtime  # type: ignore[assignment]
    runtime = Runtime(source, trunk=trunk, precision=precision, cache=cache)
    return GraphEngine(runtime, source=source, experts=experts, pooling=pooling)
