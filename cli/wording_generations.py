"""What the verbs about generations say, as plain text."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from moeret_cli.wording import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from moe_retrieval.generations import Past, Rollback
    from moe_retrieval.renaming import Renaming
    from moe_retrieval.storage.maintenance.gc import GcReport

COLUMNS = ("generation", "published", "by", "encoder", "domains", "")
GC_COLUMNS = ("what", "number", "bytes")


def row(one: Past) -> tuple[str, ...]:
    """A generation as cells."""
    made = one.note + (" (in the middle of a run)" if one.partial else "")
    return (str(one.number), one.created, made, one.model, domains(one.domains or {}), state(one))


def state(one: Past) -> str:
    """What can be done with a generation."""
    if one.live:
        return "live"
    return f"cannot be gone back to: {one.obstacle}" if one.obstacle else ""


def domains(rows: Mapping[str, int]) -> str:
    """Domains with their chunks, as in: cvd 1,204, derma 10."""
    return ", ".join(f"{name} {number:,}" for name, number in rows.items()) or "none"


def rolled_back(done: Rollback) -> str:
    """What a rollback did, or would do."""
    holds = f"chunks: {domains(done.domains)}"
    if done.dry_run:
        return f"generation {done.target} is sound and would be live again instead of {done.before}; {holds}"
    return f"generation {done.generation} is live with the content of {done.target}; {holds}"


def renamed(done: Renaming) -> str:
    """What a renaming did, or would do."""
    what = f"domain {done.old} ({count(done.documents, 'document')})"
    if done.dry_run:
        return f"{what} would be called {done.new}"
    return f"{what} is called {done.new}; generation {done.generation} is live"


def folder_advice(done: Renaming) -> str:
    """What to do so that the next index run does not make the old domain again."""
    return (
        f"documents in a folder called {done.old} would make that domain again: "
        f"rename the folder, or index with --domain {done.new}"
    )


def gc_rows(report: GcReport) -> list[tuple[str, ...]]:
    """What went, by kind."""
    found: dict[str, list[int]] = defaultdict(list)
    for one in report.removed:
        found[str(one.kind)].append(one.bytes)
    return [(kind, f"{len(sizes):,}", size(sum(sizes))) for kind, sizes in found.items()]


def gc_notes(report: GcReport) -> Iterator[str]:
    """What stayed although no kept generation needs it, and why."""
    for one in report.kept:
        yield f"kept: {one.name}: {one.why}"


def gc_details(report: GcReport) -> Iterator[str]:
    """Every thing that went."""
    for one in report.removed:
        yield f"{'would remove' if report.dry_run else 'removed'} {one.kind} {one.name}, {size(one.bytes)}"


def gc_summary(report: GcReport) -> str:
    """What was gained, and what is left."""
    weight = size(report.bytes)
    freed = f"about {weight} would be freed" if report.dry_run else f"{weight} freed"
    numbers = ", ".join(map(str, report.generations)) or "none"
    return f"{freed}; generations kept: {numbers}"


def size(number: int) -> str:
    """A number of bytes, as in: 12.3 MB."""
    value = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1_000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1_000
    return f"{value:.1f} TB"
