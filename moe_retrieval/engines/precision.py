"""Which number format `auto` stands for on this machine."""

from __future__ import annotations

from pathlib import Path

from moe_retrieval.types import Precision

_CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


def pick_device(device: str | None) -> str:
    """The given device, or cuda where there is one; torch is imported only where a driver is present."""
    if device:
        return device
    if not any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_precision(precision: Precision, *, device: str) -> Precision:
    """bf16 for `auto` where the device computes in it, fp32 elsewhere: emulated bf16 is slower than fp32."""
    if precision is not Precision.AUTO:
        return precision
    native = _cuda_has_bf16() if device.startswith("cuda") else device == "cpu" and cpu_has_bf16()
    return Precision.BF16 if native else Precision.FP32


def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bf16 itself; False where the kernel does not report it."""
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _CPU_FLAGS.isdisjoint(flags.split())


def _cuda_has_bf16() -> bool:
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
