"""`moeret context`: cited text for a language model, within a token budget."""

from __future__ import annotations

from typing import Annotated

import typer

from moe_retrieval.types import ContextFormat
from moeret_cli import options, render
from moeret_cli.query import NOTHING_FOUND, read_text


def context(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="The question, or - for standard input.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option("--budget", "-b", help="Tokens the context may have [1500].")
    ] = None,
    form: Annotated[
        ContextFormat, typer.Option("--format", "-f", help="Outer form.")
    ] = ContextFormat.MARKDOWN,
    domain: options.Domains = None,
    mode: options.ModeOption = None,
    where: options.Where = None,
    store: options.Store = None,
    model: options.Model = None,
    precision: options.PrecisionOption = None,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Assemble the best hits into one text: deduplicated, joined, fenced, with numbered citations.

    Tokens are counted with the encoder's tokenizer, fences and headers included. --json prints the text
    together with its citations as one object; --format json is a form of the text itself.
    """
    moeret = options.open_store(
        quiet=quiet, store=store, model=model, precision=precision, device=device, mode=mode, budget=budget
    )
    found = moeret.context(read_text(text), form=form, domains=domain, where=where)
    if json:
        render.json_line(found.to_dict())
    else:
        render.raw(found.text)
    if not found.citations:
        render.note("no hits")
        raise typer.Exit(NOTHING_FOUND)
