"""`moeret reindex`: embed again what is stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moeret_cli import bars, options, render
from moeret_cli import wording_reindex as wording
from moeret_cli.interruption import resumable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_retrieval.retrieval.rebuilding.plan import DomainPlan
    from moe_retrieval.types import IndexReport


def reindex(
    domain: Annotated[
        list[str] | None,
        typer.Option("--domain", "-d", metavar="NAME", help="Only this domain; may be repeated."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also what is not stale.")] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", "--dry-run", "-n", help="Say what would be done, how long it takes; change nothing."
        ),
    ] = False,
    store: options.Store = None,
    model: options.Model = None,
    experts: options.Experts = None,
    precision: options.PrecisionOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    chunk_tokens: Annotated[
        int | None, typer.Option(help="Cut documents anew: tokens per chunk [as they are].")
    ] = None,
    chunk_overlap: Annotated[
        int | None, typer.Option(help="Cut documents anew: tokens that neighbouring chunks share.")
    ] = None,
    recall: options.Recall = None,
    durability: options.DurabilityOption = None,
    wait: options.Wait = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Embed again the domains whose encoder changed: new tables beside the live ones, published all at once.

    Queries see the old tables until then. A killed run goes on where it was. With another chunk size, the
    documents are read again and cut anew; chunks that stay the same keep their vectors.
    """
    render.verbose = verbose
    moeret = options.open_store(
        quiet=quiet,
        store=store,
        model=model,
        experts=experts,
        precision=precision,
        engine=engine,
        device=device,
        chunk_tokens=chunk_tokens,
        chunk_overlap=chunk_overlap,
        recall=recall,
        durability=durability,
        lease_wait=wait,
    )
    with bars.phase(bars.LOADING):
        reindexer = moeret.reindexer()
        plans = reindexer.plan(domains=domain, force=force)
    if plan:
        with bars.phase("measuring"):
            plans = reindexer.estimate(plans, force=force)
    _show_plan(plans, json=json, measured=plan)
    if plan:
        return
    total = sum(one.rows for one in plans)
    with resumable(), bars.bar("chunks written", total=total) as advance:
        report = reindexer.run(domains=domain, force=force, progress=lambda _domain, count: advance(count))
    _show_report(report, json=json, planned=bool(plans), verbose=verbose)


def _show_plan(plans: Sequence[DomainPlan], *, json: bool, measured: bool) -> None:
    """The domains that are due with their reasons; costs, where they were measured."""
    if json:
        for one in plans:
            render.json_line(one.to_dict())
        return
    if plans:
        columns = wording.COLUMNS + (wording.ESTIMATES if measured else ())
        render.table(columns, wording.plan_rows(plans))
    for said in wording.outlook(plans) if measured or not plans else ():
        render.line(said)


def _show_report(report: IndexReport, *, json: bool, planned: bool, verbose: bool) -> None:
    if json:
        render.json_line(report.to_dict())
        return
    if planned:
        render.line(wording.summary(report))
    for said in wording.kept(report, verbose=verbose):
        render.note(said)
