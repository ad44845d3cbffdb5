"""What `moeret bench` says, as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_retrieval.bench import Bench

COLUMNS = ("domain", "engine", "kind", "build s", "MB", "p50 ms", "p99 ms", "queries/s", "recall", "")


def row(one: Bench) -> tuple[str, ...]:
    """One line of the table, under `COLUMNS`."""
    found = one.figures
    shown = ", ".join(f"{name} {value}" for name, value in found.setting.items() if name != "nlist")
    return (
        one.domain,
        found.engine,
        f"{found.kind} ({shown})" if shown else found.kind,
        f"{found.build_seconds:,.1f}",
        f"{found.megabytes:,.1f}",
        f"{found.p50_ms:.3f}",
        f"{found.p99_ms:.3f}",
        f"{found.per_second:,.0f}",
        f"{found.recall:.3f}",
        "in use" if one.in_use else "",
    )


def title(rows: int, k: int) -> str:
    """What the figures are of."""
    return f"{rows:,} chunks; recall@{k} against exact search, one query at a time, warm"
