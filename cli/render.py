"""Everything the program shows: results to standard output, narration to standard error."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import MoeretError
from moeret_cli import wording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console, RenderableType
    from rich.text import Text

    from moe_retrieval.doctor import Finding
    from moe_retrieval.models import ExpertPair, ModelInfo
    from moe_retrieval.retrieval.retriever import Answer
    from moe_retrieval.status import Status
    from moe_retrieval.types import Hit, IndexReport

quiet = False
"""Set by a verb's --quiet: no narration, no progress."""

verbose = False
"""Set by a verb's --verbose: an error that nobody expected comes with its traceback."""

WIDE = 100_000
"""Columns where standard output is no terminal: nothing is cut or folded there."""


class OutputError(MoeretError):
    """Results cannot be written."""


def start() -> None:
    """Make standard output take what its encoding lacks, rather than fail on it."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def raw(text: str) -> None:
    """A result exactly as it is."""
    with _writing():
        sys.stdout.write(text)


def flush() -> None:
    """Write what is held back; an error shows here, and not after the end."""
    with _writing():
        sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"could not write the results: {error.strerror}") from error


def settle() -> None:
    """Let go of what cannot be written, or the interpreter tries it again at its end and complains."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def line(text: str) -> None:
    """One line of result for a person."""
    raw(wording.clean(text) + "\n")


def json_line(record: Mapping[str, Any]) -> None:
    """One JSON object on a line of its own; in ASCII where standard output takes no more."""
    text = json.dumps(record, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf8")
    except UnicodeEncodeError:
        text = json.dumps(record, default=str)
    raw(text + "\n")


def note(text: str) -> None:
    """One line of narration."""
    if not quiet:
        aside(f"moeret: {wording.clean(text)}\n")


def error(message: str, *, next_step: str = "") -> None:
    """A problem's sentence, and under it the next step. Quiet does not silence it."""
    aside(f"moeret: error: {wording.clean(message)}\n")
    if next_step:
        aside(f"        next: {wording.clean(next_step)}\n")


def aside(text: str) -> None:
    """Text to standard error as it is; work does not stop because nobody can read it."""
    with suppress(OSError):
        sys.stderr.write(text if text.endswith("\n") else text + "\n")


def index_report(report: IndexReport, *, dry_run: bool, pruned: bool) -> None:
    """What an index run did, with what it left out and why."""
    for said in wording.index_summary(report, dry_run=dry_run):
        line(said)
    for said in wording.index_notes(report, dry_run=dry_run, verbose=verbose, pruned=pruned):
        note(said)


def answer(found: Answer, *, explain: bool, title: str = "") -> None:
    """Ranked hits: place, score, domain, title, source and the beginning of the text."""
    if title:
        _show(_row((f"== {title}: {found.query}", "")))
    if explain:
        _show(_row((wording.route(found), "")))
    for hit in found.hits:
        _show(*_hit(hit, explain=explain))


def _hit(hit: Hit, *, explain: bool) -> Iterator[Text]:
    title = hit.title or hit.doc_id
    yield _row(
        (f"{hit.rank:>2}  {hit.score:.3f}  ", "dim"), (hit.domain, "cyan"), ("  ", ""), (title, "bold")
    )
    yield _row(("    " + wording.place(hit), "dim"))
    if explain:
        yield _row(("    " + wording.searches(hit), ""))
    yield _row(("    " + wording.beginning(hit.text), ""))


def status(found: Status, *, wanted_recall: float) -> None:
    """The live generation as a table; an index that finds less than is wanted gets a note."""
    line(f"store {wording.short_path(found.store)}, generation {found.generation} of {found.created}")
    line(f"encoder {found.model}, router {found.router[:12] or 'none (no documents)'}")
    columns = ("domain", "documents", "chunks", "expert", "index", "recall@10", "written since")
    table(columns, [wording.status_row(one, wanted_recall=wanted_recall) for one in found.domains])
    for domain, expert in found.waiting.items():
        note(f"expert {expert[:12]} waits for its first table: moeret index PATH --domain {domain}")
    for one in found.domains:
        if wording.is_low(one, wanted_recall=wanted_recall):
            note(f"the index of {one.domain} has a recall@10 below {wanted_recall} (setting `recall`)")


def domains(found: Status) -> None:
    """Domains with their descriptions."""
    rows = [(one.domain, f"{one.documents:,}", f"{one.chunks:,}", one.description) for one in found.domains]
    table(("domain", "documents", "chunks", "description"), rows)


def model_info(found: ModelInfo) -> None:
    """What a model is made of, then its domains."""
    for what, said in wording.model_facts(found):
        line(f"{what:<12} {said}")
    rows = [
        (domain, found.domains.get(domain, "general"), mark[:16])
        for domain, mark in found.fingerprints.items()
    ]
    table(("domain", "expert", "fingerprint"), rows)


def expert_pairs(pairs: Sequence[ExpertPair]) -> None:
    """How alike experts are; a duplicate gets a note."""
    columns = ("experts", "distance of weights", "cosine of changes", "cosine of outputs", "")
    table(columns, [wording.pair_row(pair) for pair in pairs])
    for pair in pairs:
        if pair.duplicate:
            note(f"{pair.other} computes what {pair.one} does: one of them can be dropped")
    if not pairs:
        note("the model has one expert only")


def findings(found: Iterable[Finding]) -> None:
    """What the doctor found, below each problem its cure."""
    colour = {"ok": "green", "warning": "yellow", "failed": "red"}
    for one in found:
        _show(_row((f"{one.level:>7}  ", colour[one.level]), (f"{one.subject}: {one.message}", "")))
        if one.cure:
            _show(_row((f"         next: {one.cure}", "")))


def _row(*parts: tuple[str, str]) -> Text:
    """A line of texts with their styles."""
    from rich.text import Text

    return Text.assemble(*((wording.clean(text), style) for text, style in parts))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows under their columns."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(_row, ((cell, "") for cell in row)))
    _show(table, wrap=True)


def _show(*parts: RenderableType, wrap: bool = False) -> None:
    """Print through rich, which knows colours and widths, without blanks at the ends of lines."""
    console = _console()
    with console.capture() as captured:
        for part in parts:
            console.print(part, soft_wrap=not wrap)
    raw("\n".join(one.rstrip(" ") for one in captured.get().split("\n")))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
