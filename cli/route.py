"""`moeret route`: which domains a text belongs to."""

from __future__ import annotations

from typing import Annotated

import typer

from moeret_cli import options, questions, render
from moeret_cli import wording_route as wording

NEAREST = 3
"""Chunks that are shown with `--explain`."""


def route(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to route, or - for standard input.")
    ] = None,
    mass: Annotated[
        float | None,
        typer.Option("--mass", help="Probability wanted of the right domain being among those searched."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show all probabilities, the threshold, and the nearest chunks."),
    ] = False,
    store: options.Store = None,
    model: options.Model = None,
    precision: options.PrecisionOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show the domains in which a query of this text is searched, likeliest first."""
    text = questions.read_text(text, hint='moeret route "a question"')
    moeret = options.open_store(
        quiet=quiet, store=store, model=model, precision=precision, engine=engine, device=device, mass=mass
    )
    found = moeret.route(text, nearest=NEAREST if explain else 0)
    if json:
        render.json_line(found.to_dict())
        return
    render.table(wording.COLUMNS, wording.rows(found, everything=explain))
    for said in wording.reasons(found) if explain else wording.warnings(found):
        render.line(said) if explain else render.note(said)
