"""`moeret gc`: free what old generations take."""

from __future__ import annotations

from typing import Annotated

import typer

from moeret_cli import options, render
from moeret_cli import wording_generations as wording


def gc(
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", help="Generations to keep; there must be one.")
    ] = 3,
    dry_run: options.DryRun = False,
    store: options.Store = None,
    wait: options.Wait = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Remove old generations, and tables, versions, experts and index files that only they needed.

    What running processes read stays, and what a killed run left that the next one goes on with.
    """
    report = options.open_store(quiet=quiet, store=store, lease_wait=wait).gc(keep=keep, dry_run=dry_run)
    if json:
        render.json_line(report.to_dict())
        return
    if report.removed:
        render.table(wording.GC_COLUMNS, wording.gc_rows(report))
    for said in wording.gc_details(report) if verbose else ():
        render.note(said)
    for said in wording.gc_notes(report):
        render.note(said)
    render.line(wording.gc_summary(report))
