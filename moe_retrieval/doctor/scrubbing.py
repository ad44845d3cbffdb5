"""Examine all bytes of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_retrieval.doctor.findings import Finding
from moe_retrieval.storage.maintenance.scrub import Damage, scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from moe_retrieval.storage.store import Store


def examine_bytes(store: Store, *, progress: Callable[[int], None]) -> Iterator[Finding]:
    """One finding per damaged file, per file that could not be checked, and a sum."""
    report = scrub(store, progress=progress)
    for damage in report.damages:
        yield _damaged(damage)
    for name, reason in report.unchecked.items():
        yield Finding("warning", "scrub", f"{name} is unchecked: {reason}", "moeret doctor --repair")
    of = f"{report.generations} generation{'s' if report.generations > 1 else ''}"
    read = f"{report.files:,} files of {of}, {report.bytes / 1e6:,.1f} MB"
    if not report.damages:
        yield Finding("ok", "scrub", f"{read} read, all as they were written")


def _damaged(damage: Damage) -> Finding:
    """What only older generations need is in no query's way."""
    level = "failed" if damage.live else "warning"
    return Finding(level, f"scrub, {damage.kind}", f"{damage.name} {damage.problem}", damage.cure)
