"""`moeret reindex`: embed again what is stale."""

from __future__ import annotations

from typing import Annotated

import typer

from moeret_cli import options, render
from moeret_cli.interruption import resumable


def reindex(
    domain: Annotated[
        list[str] | None,
        typer.Option("--domain", "-d", metavar="NAME", help="Only this domain; may be repeated."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also what is not stale.")] = False,
    dry_run: options.DryRun = False,
    store: options.Store = None,
    model: options.Model = None,
    experts: options.Experts = None,
    precision: options.PrecisionOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Embed again the domains whose encoder changed: new tables beside the live ones, published all at once.

    Queries see the old tables until then. A killed run goes on where it was.
    """
    moeret = options.open_store(
        quiet=quiet,
        store=store,
        model=model,
        experts=experts,
        precision=precision,
        engine=engine,
        device=device,
    )
    with render.phase(render.LOADING):
        reindexer = moeret.reindexer()
        plans = reindexer.plan(domains=domain, force=force)
    if not json:
        render.plan(plans)
    if dry_run:
        for plan in plans if json else ():
            render.json_line(plan.to_dict())
        return
    total = sum(plan.rows for plan in plans)
    with resumable(), render.bar("chunks encoded", total=total) as advance:
        report = reindexer.run(domains=domain, force=force, progress=lambda _domain, count: advance(count))
    if json:
        render.json_line(report.to_dict())
    elif plans:
        render.reindex_report(report)
