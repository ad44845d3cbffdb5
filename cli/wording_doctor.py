"""What `moeret doctor` says of its work and of what it found."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_retrieval.doctor import Examination, Finding


def work(wanted: Examination) -> str:
    """What takes its time."""
    doing = "repairing" if wanted.repair else "looking"
    parts = [name for name, asked in (("every byte", wanted.scrub), ("the sources", wanted.sources)) if asked]
    return f"{doing}, reading {' and '.join(parts)}" if parts else doing


def summary(findings: Sequence[Finding]) -> str:
    """How much is wrong, in a sentence."""
    counts = Counter(finding.level for finding in findings)
    failed, warnings = counts["failed"], counts["warning"]
    if not failed and not warnings:
        return "nothing is wrong"
    said = [f"{failed} failed"] if failed else []
    said += [f"{warnings} warning{'s' if warnings > 1 else ''}"] if warnings else []
    return ", ".join(said)
