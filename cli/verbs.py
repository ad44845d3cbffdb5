"""The verbs of the program `moeret`."""

from __future__ import annotations

from typing import Annotated

import typer

from moe_retrieval import __version__
from moeret_cli import (
    bench,
    cite,
    context,
    doctor,
    domains,
    evaluate,
    gc,
    history,
    index,
    model,
    pairs,
    query,
    reindex,
    render,
    rollback,
    route,
    status,
    train,
    tune,
)

app = typer.Typer(
    name="moeret",
    help="Search documents of several domains: a domain is one expert, one table, one fingerprint.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("index")(index.index)
app.command("query")(query.query)
app.command("context")(context.context)
app.add_typer(cite.app, name="cite")
app.command("route")(route.route)
app.command("reindex")(reindex.reindex)
app.command("status")(status.status)
app.command("history")(history.history)
app.command("rollback")(rollback.rollback)
app.command("gc")(gc.gc)
app.add_typer(domains.app, name="domains")
app.add_typer(model.app, name="model")
app.add_typer(pairs.app, name="pairs")
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.command("evaluate")(evaluate.evaluate)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        render.line(f"moeret {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Search documents of several domains: a domain is one expert, one table, one fingerprint."""
