"""What `moeret pairs` says, as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_retrieval.corpus.pairs import Split
from moeret_cli import wording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from moe_retrieval.training.pairs.negatives import MinedPairs
    from moe_retrieval.training.pairs.report import PairsReport

COLUMNS = ("domain", "train", "validation", "test", "labels 1 : 0", "kinds")


def rows(report: PairsReport) -> list[tuple[str, ...]]:
    """One row per domain."""
    return [(domain or "(none)", *_cells(report, domain)) for domain in report.counts]


def _cells(report: PairsReport, domain: str) -> Iterator[str]:
    for split in Split:
        yield f"{report.count(domain, split):,}"
    labels = report.labels[domain].values()
    yield " : ".join(f"{sum(found.get(name, 0) for found in labels):,}" for name in ("1", "0"))
    kinds = sorted({kind for found in report.counts[domain].values() for kind in found})
    yield ", ".join(kind or "(none)" for kind in kinds)


def summary(report: PairsReport, *, output: Path) -> str:
    """What was written, and where."""
    return (
        f"{wording.count(report.pairs, 'pair')} of {wording.count(len(report.counts), 'domain')} "
        f"in {wording.short_path(str(output))} (seed {report.seed}, "
        f"train.jsonl sha256 {report.files['train.jsonl'][:12]})"
    )


def notes(report: PairsReport) -> Iterator[str]:
    """What was left out and why, and what to mind."""
    for reason, number in report.dropped.items():
        yield f"left out {number:,}: {reason}"
    for warning in report.warnings:
        yield f"warning: {warning}"


def mined(found: MinedPairs, *, output: Path) -> Iterator[str]:
    """What mining added, and what it passed over."""
    place = wording.short_path(str(output))
    yield f"{wording.count(found.mined, 'negative')} for {wording.count(len(found.pairs), 'pair')} in {place}"
    if found.short:
        yield f"{wording.count(found.short, 'pair')} got fewer than asked: --depth looks further"
    for reason, number in found.dropped.items():
        yield f"passed over {number:,}: {reason}"
