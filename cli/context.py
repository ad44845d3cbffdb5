"""`moeret context`: cited text for a language model, within a token budget."""

from __future__ import annotations

from typing import Annotated

import typer

from moe_retrieval.types import ContextFormat
from moeret_cli import options, render
from moeret_cli.query import NOTHING_FOUND, nothing_found
from moeret_cli.questions import read_text

NO_HITS = "no hits in the domains that the question was routed to; --domain NAME searches others"


def context(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="The question, or - for standard input.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option("--budget", "-b", help="Tokens the context may have [1500].")
    ] = None,
    form: Annotated[
        ContextFormat, typer.Option("--format", "-f", case_sensitive=False, help="Outer form.")
    ] = ContextFormat.MARKDOWN,
    k: Annotated[int, typer.Option("-k", help="Hits to choose from.")] = 50,
    domain: options.Domains = None,
    mode: options.ModeOption = None,
    where: options.Where = None,
    store: options.Store = None,
    model: options.Model = None,
    precision: options.PrecisionOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Assemble the best hits into one text: deduplicated, joined, fenced, with numbered citations.

    Tokens are counted with the encoder's tokenizer, fences and headers included. --json prints the text
    together with its citations as one object; --format json is a form of the text itself.
    """
    asked = read_text(text, hint='moeret context "a question"')
    moeret = options.open_store(
        quiet=quiet,
        store=store,
        model=model,
        precision=precision,
        engine=engine,
        device=device,
        mode=mode,
        budget=budget,
    )
    found = moeret.context(asked, form=form, k=k, domains=domain, where=where)
    if json:
        render.json_line(found.to_dict())
    if not found.citations:
        render.note(NO_HITS if domain is None else nothing_found(moeret, domain, filtered=where is not None))
        raise typer.Exit(NOTHING_FOUND)
    if not json:
        render.raw(found.text)
