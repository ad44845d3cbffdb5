"""`moeret bench`: compare the ways to search the vectors of this store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moeret_cli import bars, options, render, wording_bench

if TYPE_CHECKING:
    from moe_retrieval.bench import Bench


def bench(
    domain: Annotated[
        list[str] | None,
        typer.Option("--domain", "-d", metavar="NAME", help="This domain only; may be repeated."),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Hits per query.")] = 10,
    queries: Annotated[
        int, typer.Option("--queries", min=1, metavar="N", help="Stored vectors that serve as queries.")
    ] = 200,
    store: options.Store = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare the kinds of vector index on this store's own vectors: build time, size, speed, recall.

    Each is built in a temporary folder and measured there; nothing in the store changes. The one that
    answers queries now is marked.
    """
    moeret = options.open_store(quiet=quiet, store=store)
    from moe_retrieval.bench import compare

    measured = compare(
        moeret.store,
        domains=domain or (),
        k=k,
        queries=queries,
        recall=moeret.settings.recall,
    )
    if json:
        for one in measured:
            render.json_line(one.to_dict())
        return
    with bars.phase("building and measuring every kind of index"):
        found = list(measured)
    _show(found)


def _show(found: list[Bench]) -> None:
    for name in dict.fromkeys(one.domain for one in found):
        mine = [one for one in found if one.domain == name]
        render.line(f"{name}: {wording_bench.title(mine[0].rows, mine[0].k)}")
        render.table(wording_bench.COLUMNS[1:], [wording_bench.row(one)[1:] for one in mine])
