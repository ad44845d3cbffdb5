"""`moeret domains`: list, describe, remove."""

from __future__ import annotations

from typing import Annotated

import typer

from moeret_cli import options, render

app = typer.Typer(help="List, describe or remove domains.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_domains(store: options.Store = None, json: options.Json = False) -> None:
    """List the domains of the store."""
    found = options.open_store(store=store).status()
    for domain in found.domains if json else ():
        render.json_line(domain.to_dict())
    if not json:
        render.domains(found)


@app.command()
def describe(
    domain: Annotated[str, typer.Argument(help="Name of the domain.")],
    text: Annotated[str, typer.Argument(help="What it holds, in a sentence.")],
    store: options.Store = None,
) -> None:
    """Give a domain a description."""
    options.open_store(store=store).describe(domain, text)
    render.note(f"domain {domain}: description set")


@app.command()
def remove(
    domain: Annotated[str, typer.Argument(help="Name of the domain.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: options.Store = None,
) -> None:
    """Take a domain out of the store. Its source files are not touched."""
    moeret = options.open_store(store=store)
    if not yes:
        typer.confirm(f"Remove domain {domain} from {moeret.store.path}?", abort=True, err=True)
    count = moeret.remove_domain(domain)
    render.note(f"domain {domain}: {count} documents removed from the store")
