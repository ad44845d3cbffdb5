"""`moeret tune`: fit to judged queries how the lists of a store are joined."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moeret_cli import bars, options, render, wording_tune

if TYPE_CHECKING:
    from moe_retrieval.tuning.report import TuneReport


def tune(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder in BEIR layout whose documents are in the store: queries, qrels."
        ),
    ],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of folds and bootstrap.")] = 0,
    dry_run: options.DryRun = False,
    store: options.Store = None,
    precision: options.PrecisionOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    wait: options.Wait = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Choose on judged queries how much vectors and full text weigh, and what scores are worth.

    One half of the queries is chosen by (qrels/dev.tsv, or by a hash of the ids), the other says what the
    choice is worth. What does not gain there is not kept; what does is saved with the store, as one
    generation.
    """
    moeret = options.open_store(
        quiet=quiet, store=store, precision=precision, engine=engine, device=device, lease_wait=wait
    )
    from moe_retrieval.tuning.run import tune as fit

    with bars.tally("searches of judged queries") as progress:
        report = fit(
            moeret.retriever,
            folder,
            dry_run=dry_run,
            mass=moeret.settings.mass,
            seed=seed,
            progress=progress,
        )
    _show(report, dry_run=dry_run, json=json)


def _show(report: TuneReport, *, dry_run: bool, json: bool) -> None:
    for said in report.warnings:
        render.note(f"warning: {said}")
    if json:
        render.json_line(report.to_dict())
        return
    render.table(wording_tune.TRIAL_COLUMNS, wording_tune.trial_rows(report.trials))
    for said in wording_tune.summary(report, dry_run=dry_run):
        render.line(said)
