"""`moeret query`: ranked hits for one text, or for a file of queries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moeret_cli import options, render

if TYPE_CHECKING:
    from moe_retrieval.retrieval.retriever import Answer

NOTHING_FOUND = 3


def query(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to look for, or - for standard input.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option("--queries", metavar="FILE", help='JSON lines {"_id", "text"} instead of TEXT.'),
    ] = None,
    k: Annotated[int | None, typer.Option("-k", help="Hits per query [10].")] = None,
    domain: options.Domains = None,
    mode: options.ModeOption = None,
    where: options.Where = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show route, ranks and scores.")] = False,
    store: options.Store = None,
    model: options.Model = None,
    precision: options.PrecisionOption = None,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Search the store: routed to the fewest domains likely to hold the answer, best hits first."""
    asked = read_queries(queries) if queries else {"1": read_text(text)}
    moeret = options.open_store(
        quiet=quiet, store=store, model=model, precision=precision, device=device, k=k, mode=mode
    )
    answers = moeret.query_many(list(asked.values()), domains=domain, where=where)
    for name, answer in zip(asked, answers, strict=True):
        show(name, answer, json=json, explain=explain, several=len(asked) > 1)
    if not any(answer.hits for answer in answers):
        render.note("no hits")
        raise typer.Exit(NOTHING_FOUND)


def show(name: str, answer: Answer, *, json: bool, explain: bool, several: bool) -> None:
    """Print one answer."""
    if not json:
        render.answer(answer, explain=explain, title=name if several else "")
        return
    for hit in answer.hits:
        record = {"query_id": name} | hit.to_dict()
        why = record.pop("why")
        render.json_line(record | {"why": why} if explain else record)


def read_text(text: str | None) -> str:
    """The query argument, or standard input for `-`."""
    from moe_retrieval.errors import UsageError

    if text is None:
        raise UsageError("there is nothing to look for", hint='moeret query "a question", or --queries FILE')
    return sys.stdin.read() if text == "-" else text


def read_queries(path: Path) -> dict[str, str]:
    """Texts by id from a file of JSON lines."""
    from moe_retrieval.corpus.queries import read_queries as read

    return read(path)
