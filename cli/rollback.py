"""`moeret rollback`: go back to an older generation."""

from __future__ import annotations

from typing import Annotated

import typer

from moeret_cli import bars, options, render
from moeret_cli import wording_generations as wording


def rollback(
    generation: Annotated[
        int | None,
        typer.Argument(
            metavar="[GENERATION]",
            help="Number of the generation; default: the newest before the live one that holds anything else "
            "and was published at the end of a run.",
        ),
    ] = None,
    dry_run: options.DryRun = False,
    store: options.Store = None,
    wait: options.Wait = None,
    model: options.Model = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make the content of an older generation live again, in a new generation; queries see it at once.

    Its tables, experts and router are checked first. The next index run goes on from it. A second rollback
    takes the first one back.
    """
    moeret = options.open_store(quiet=quiet, store=store, model=model, lease_wait=wait)
    with bars.phase("checking the generation"):
        done = moeret.rollback(generation, dry_run=dry_run)
    if json:
        render.json_line(done.to_dict())
    else:
        render.line(wording.rolled_back(done))
