"""`moeret domains`: list, describe, rename, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moe_retrieval.errors import UnknownDomainError
from moeret_cli import bars, options, render, wording
from moeret_cli import wording_generations as said

if TYPE_CHECKING:
    from moe_retrieval.moeret import Moeret

app = typer.Typer(
    help="List, describe, rename or remove domains.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def list_domains(
    store: options.Store = None, json: options.Json = False, quiet: options.Quiet = False
) -> None:
    """List the domains of the store."""
    found = options.open_store(quiet=quiet, store=store).status()
    for domain in found.domains if json else ():
        render.json_line(domain.to_dict())
    if not json:
        render.domains(found)


@app.command()
def describe(
    domain: Annotated[str, typer.Argument(help="Name of the domain.")],
    text: Annotated[str, typer.Argument(help="What it holds, in a sentence.")],
    store: options.Store = None,
    quiet: options.Quiet = False,
) -> None:
    """Give a domain a description."""
    options.open_store(quiet=quiet, store=store).describe(domain, text)
    render.note(f"domain {domain}: description set")


@app.command()
def rename(
    old: Annotated[str, typer.Argument(help="Name of the domain.")],
    new: Annotated[str, typer.Argument(help="The name it is to have.")],
    dry_run: options.DryRun = False,
    store: options.Store = None,
    wait: options.Wait = None,
    model: options.Model = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Give a domain another name, in a new generation; nothing is embedded again.

    Queries that run meanwhile end under the old name. A domain whose expert lies in the folder of the model,
    under the old name, is refused.
    """
    moeret = options.open_store(quiet=quiet, store=store, model=model, lease_wait=wait)
    with bars.phase(bars.LOADING):
        done = moeret.rename_domain(old, new, dry_run=dry_run)
    if json:
        render.json_line(done.to_dict())
        return
    render.line(said.renamed(done))
    render.note(said.folder_advice(done))


@app.command()
def remove(
    domain: Annotated[str, typer.Argument(help="Name of the domain.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: options.DryRun = False,
    store: options.Store = None,
    quiet: options.Quiet = False,
) -> None:
    """Take a domain out of the store. Its source files are not touched."""
    moeret = options.open_store(quiet=quiet, store=store)
    documents = _documents(moeret, domain)
    if dry_run:
        render.line(f"domain {domain}: {documents} would be removed from the store")
        return
    if not yes:
        question = f"Remove domain {domain} ({documents}) from {moeret.store.name}?"
        typer.confirm(wording.clean(question), abort=True, err=True)
    moeret.remove_domain(domain)
    render.note(f"domain {domain}: {documents} removed from the store")


def _documents(moeret: Moeret, domain: str) -> str:
    """How many documents a domain holds; it must be in the store, or have an expert that waits there."""
    status = moeret.status()
    found = dict.fromkeys(status.waiting, 0) | {one.domain: one.documents for one in status.domains}
    if domain not in found:
        raise UnknownDomainError(domain, found)
    return wording.count(found[domain], "document")
