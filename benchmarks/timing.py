"""Interleaved timing: every way once per round, medians, the interval of the ratio to a rival's rounds."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def interleaved(
    ways: Mapping[str, Callable[[], object]], *, rounds: int, seed: int = 0
) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one round that does not count; the order changes by round."""
    order = random.Random(seed)
    for run in ways.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        names = list(ways)
        order.shuffle(names)
        for name in names:
            begun = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def ratio(ours: list[float], theirs: list[float], *, seed: int = 0) -> dict[str, float]:
    """Median of ours / theirs by round, and its 95% interval (bootstrap over the rounds)."""
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    draw = random.Random(seed)
    medians = sorted(statistics.median(draw.choices(pairs, k=len(pairs))) for _ in range(2_000))
    return {
        "ratio": round(statistics.median(pairs), 4),
        "low": round(medians[49], 4),
        "high": round(medians[1949], 4),
    }


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
    return {
        "cpu": name or platform.processor(),
        "cores": os.cpu_count(),
        "flags": [flag for flag in wanted if flag in flags],
    }


def report(rows: list[dict[str, object]], *, path: Path | None, **more: object) -> None:
    """Print rows as a table, and write them with the machine as JSON."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[str(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[at]) for line in cells)) for at, name in enumerate(names)]
    for line in [names, ["-" * width for width in widths], *cells]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = {"machine": machine(), **more, "rows": rows}
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")
