"""Everything the program shows: results to standard output, narration and progress to standard error."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.progress import Progress

    from moe_retrieval.doctor import Finding
    from moe_retrieval.errors import MoeretError
    from moe_retrieval.retrieval.reindexer import DomainPlan
    from moe_retrieval.retrieval.retriever import Answer
    from moe_retrieval.status import Status
    from moe_retrieval.types import Hit, IndexReport

quiet = False
"""Set by a verb's --quiet: no narration, no progress."""

SHOWN_REASONS = 10
SHOWN_TEXT = 300


def line(text: str) -> None:
    """One line of result."""
    sys.stdout.write(text + "\n")


def raw(text: str) -> None:
    """A result exactly as it is."""
    sys.stdout.write(text)


def json_line(record: Mapping[str, Any]) -> None:
    """One JSON object on a line of its own."""
    line(json.dumps(record, ensure_ascii=False, default=str))


def note(text: str) -> None:
    """One line of narration."""
    if not quiet:
        sys.stderr.write(f"moeret: {text}\n")


def error(problem: MoeretError) -> None:
    """A problem's sentence, and under it the next step. Quiet does not silence it."""
    sys.stderr.write(f"moeret: error: {problem.message}\n")
    if problem.hint:
        sys.stderr.write(f"        next: {problem.hint}\n")


def index_report(report: IndexReport, *, dry_run: bool, verbose: bool, pruned: bool) -> None:
    """What an index run did, with what it left out and why."""
    verb = "would encode" if dry_run else "encoded"
    for domain, chunks in report.domains.items():
        line(f"{domain}: {chunks:,} chunks")
    line(
        f"{report.documents:,} documents ({report.unchanged:,} unchanged, {report.removed:,} removed), "
        f"{report.chunks:,} chunks in the store, {report.encoded:,} {verb.removesuffix(' encode')}"
        f"{' be encoded' if dry_run else ''}, {report.seconds:.1f} s"
    )
    for domain, count in report.routed.items():
        note(f"{count:,} documents without a domain were routed to {domain}")
    _reasons("skipped", [(one.source, one.reason) for one in report.skipped], everything=verbose)
    _reasons("rejected", [(one.source, one.reason) for one in report.rejections], everything=verbose)
    if report.rejected:
        note(f"warning: {report.rejected:,} rejected, the rest is indexed (--strict makes this exit code 1)")
    if report.vanished and not pruned:
        note(f"{report.vanished:,} stored documents are gone from these paths; --prune deletes them")


def _reasons(what: str, items: Sequence[tuple[str, str]], *, everything: bool) -> None:
    shown = items if everything else items[:SHOWN_REASONS]
    for source, reason in shown:
        note(f"{what}: {short_path(source)}: {reason}")
    if len(items) > len(shown):
        note(f"{what}: {len(items) - len(shown):,} more; --verbose or --json lists all")


def answer(found: Answer, *, explain: bool, title: str = "") -> None:
    """Ranked hits: place, score, domain, title, source and the beginning of the text."""
    console = _console()
    if title:
        console.print(f"== {title}: {found.query}", markup=False, highlight=False)
    if explain:
        routes = ", ".join(f"{route.domain} {route.probability:.2f}" for route in found.routes)
        console.print(f"route: {routes} (generation {found.generation})", markup=False, highlight=False)
    for hit in found.hits:
        _hit(console, hit, explain=explain)


def _hit(console: Console, hit: Hit, *, explain: bool) -> None:
    from rich.text import Text

    place = f"{short_path(hit.source)}:{hit.start}-{hit.end}" + (
        f" p. {hit.page}" if hit.page is not None else ""
    )
    head = Text.assemble(
        (f"{hit.rank:>2}  {hit.score:.3f}  ", "dim"),
        (hit.domain, "cyan"),
        "  ",
        (hit.title or hit.doc_id, "bold"),
    )
    console.print(head, soft_wrap=True)
    console.print(
        Text(
            f"    {' '.join(hit.doc_id.split())} | {place}" + (f" | {hit.section}" if hit.section else ""),
            "dim",
        ),
        soft_wrap=True,
    )
    if explain:
        why = hit.why
        console.print(
            Text(
                f"    vector {_ranked(why.vector_rank, why.vector_score)},"
                f" text {_ranked(why.text_rank, why.text_score)}"
            ),
            soft_wrap=True,
        )
    text = " ".join(hit.text.split())
    console.print(
        Text("    " + (text if len(text) <= SHOWN_TEXT else text[:SHOWN_TEXT].rstrip() + " ...")),
        soft_wrap=True,
    )


def _ranked(rank: int | None, score: float | None) -> str:
    return "-" if rank is None else f"#{rank} ({score:.3f})"


def plan(plans: Sequence[DomainPlan]) -> None:
    """What a reindex would do."""
    if not plans:
        line("nothing is stale")
    for one in plans:
        reason = f"{one.stored[:12]} -> {one.target[:12]}" if one.stale else "not stale, forced"
        line(f"{one.domain}: {one.rows:,} chunks to embed again ({reason})")


def reindex_report(report: IndexReport) -> None:
    """What a reindex did."""
    line(
        f"{len(report.domains)} domains, {report.chunks:,} chunks, {report.encoded:,} encoded, "
        f"{report.seconds:.1f} s; "
        f"generation {report.generation} is live"
    )


def status(found: Status) -> None:
    """The live generation as a table."""
    line(f"store {short_path(found.store)}, generation {found.generation} of {found.created}")
    line(f"encoder {found.model}, router {'fitted' if found.router else 'none (one domain or none)'}")
    columns = ("domain", "documents", "chunks", "expert", "index", "recall@10", "written since")
    rows = []
    for one in found.domains:
        expert = one.expert[:12] + (
            f" (candidate {one.candidate[:12]}: moeret reindex)" if one.candidate else ""
        )
        index = one.index
        rows.append(
            (
                one.domain,
                f"{one.documents:,}",
                f"{one.chunks:,}",
                expert,
                f"{index.engine} {index.factory}" if index else "none: moeret index",
                f"{index.recall_at_10:.3f}" if index else "-",
                f"{index.tail:,}" if index else "-",
            )
        )
    _table(columns, rows)


def domains(found: Status) -> None:
    """Domains with their descriptions."""
    rows = [(one.domain, f"{one.documents:,}", f"{one.chunks:,}", one.description) for one in found.domains]
    _table(("domain", "documents", "chunks", "description"), rows)


def findings(found: Iterable[Finding]) -> None:
    """What the doctor found, worst last on each line the cure."""
    console = _console()
    for one in found:
        mark = {"ok": "green", "warning": "yellow", "failed": "red"}[one.level]
        console.print(f"[{mark}]{one.level:>7}[/]", end="  ", highlight=False)
        console.print(f"{one.subject}: {one.message}", markup=False, highlight=False, soft_wrap=True)
        if one.cure:
            console.print(f"         next: {one.cure}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def counting(first: str, second: str) -> Iterator[Callable[[int, int], None] | None]:
    """A line that counts two things while the total is unknown; None where nobody watches."""
    with _progress() as progress:
        if progress is None:
            yield None
            return
        task = progress.add_task("", total=None)

        def told(one: int, two: int) -> None:
            progress.update(task, completed=two, description=f"{one:,} {first}, {two:,} {second}")

        yield told


@contextmanager
def bar(what: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar with the time left."""
    with _progress() as progress:
        if progress is None:
            yield lambda _count: None
            return
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def _progress() -> Iterator[Progress | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


def short_path(path: str) -> str:
    """A path as a person would type it here: relative where it lies below the working folder."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    _console().print(table)
