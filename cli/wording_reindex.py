"""What `moeret reindex` says: what is stale and why, what it would cost, what was done. Plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeret_cli.wording import SHOWN_REASONS, count, forgetting, short_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_retrieval.retrieval.rebuilding.plan import Change, DomainPlan
    from moe_retrieval.types import IndexReport

_SHORT = 12
_PARTS = {
    "trunk": "trunk",
    "expert": "expert",
    "token_row": "domain token",
    "words": "added words",
    "tokenizer": "tokenizer",
    "pooling": "pooling",
    "max_length": "max length",
    "dim": "dimension",
    "query_prompt": "query prompt",
    "document_prompt": "document prompt",
    "chunking": "chunking",
    "other": "routing or case rule of the model",
}
_PLAIN = {"pooling", "max_length", "dim"}
_QUOTED = {"query_prompt", "document_prompt"}
COLUMNS = ("domain", "why", "chunks")
ESTIMATES = ("to encode", "to reuse", "time", "size")


def plan_rows(plans: Sequence[DomainPlan]) -> list[tuple[str, ...]]:
    """A plan as rows of a table, with its estimates where it has them."""
    return [(plan.domain, why(plan), f"{plan.rows:,}", *_estimates(plan)) for plan in plans]


def why(plan: DomainPlan) -> str:
    """What changed, as in: expert general -> 1a2b3c4d5e6f, max length 256 -> 128."""
    return ", ".join(map(_change, plan.changes)) or "nothing changed, forced"


def outlook(plans: Sequence[DomainPlan]) -> Iterator[str]:
    """What all of it comes to."""
    if not plans:
        yield "nothing is stale"
        return
    encode, reuse = sum(plan.encode for plan in plans), sum(plan.reuse for plan in plans)
    seconds, size = sum(plan.seconds or 0 for plan in plans), sum(plan.bytes or 0 for plan in plans)
    yield (
        f"{count(encode, 'chunk')} to encode, {reuse:,} to reuse; about {duration(seconds)} of encoding and "
        f"{size_of(size)} beside the live tables"
    )


def summary(report: IndexReport) -> str:
    """What a reindex did."""
    if not report.domains:
        return f"nothing was written; generation {report.generation} stays live"
    reused = report.chunks - report.encoded
    written = f"{count(len(report.domains), 'domain')}, {count(report.chunks, 'chunk')}"
    return (
        f"{written}: {report.encoded:,} encoded, {reused:,} reused, {report.seconds:.1f} s; "
        f"generation {report.generation} is live"
    )


def kept(report: IndexReport, *, verbose: bool) -> Iterator[str]:
    """The sources whose documents could not be cut anew, and why."""
    shown = report.rejections if verbose else report.rejections[:SHOWN_REASONS]
    for one in shown:
        yield f"{short_path(one.source) or 'without a source'}: {one.reason}"
    if len(report.rejections) > len(shown):
        yield f"{len(report.rejections) - len(shown):,} more sources; --verbose or --json lists all"
    if report.unchanged:
        yield f"{count(report.unchanged, 'document')} kept old chunks; moeret index PATH cuts them anew"
    if report.forgotten:
        yield forgetting(report.forgotten)


def duration(seconds: float) -> str:
    """As in: 4 s, 2 min 10 s, 3 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole else f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size_of(size: int) -> str:
    """Bytes, as in: 1.5 MB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _estimates(plan: DomainPlan) -> tuple[str, ...]:
    if plan.seconds is None or plan.bytes is None:
        return ()
    return (f"{plan.encode:,}", f"{plan.reuse:,}", duration(plan.seconds), size_of(plan.bytes))


def _change(change: Change) -> str:
    name = _PARTS[change.part]
    if change.part == "other":
        return name
    if change.part == "chunking":
        return f"{name} {change.before or '?'} -> {change.after}"
    if change.part in _QUOTED:
        return f"{name} {change.before!r} -> {change.after!r}"
    before, after = change.before, change.after
    if change.part not in _PLAIN:
        before, after = before[:_SHORT], after[:_SHORT]
    return f"{name} {before or '?'} -> {after}"
