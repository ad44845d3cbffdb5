"""`moeret index`: bring the store to what files hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe_retrieval.errors import NothingFoundError, UsageError
from moeret_cli import bars, options, render, wording
from moeret_cli.interruption import resumable


def index(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Files, folders, globs, or - for JSON lines on stdin."),
    ],
    domain: Annotated[
        str | None, typer.Option("--domain", "-d", help="Put everything into this domain.")
    ] = None,
    domain_field: Annotated[
        str | None,
        typer.Option("--domain-field", metavar="FIELD", help="Take the domain from this field of records."),
    ] = None,
    multi_domain: Annotated[
        bool,
        typer.Option(
            "--multi-domain",
            help="Store a document without a domain in each that it may well be of, in three at most.",
        ),
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete stored documents of PATH that are gone.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit code 1 if any document was rejected.")
    ] = False,
    dry_run: options.DryRun = False,
    store: options.Store = None,
    model: options.Model = None,
    experts: options.Experts = None,
    precision: options.PrecisionOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    chunk_tokens: Annotated[
        int | None, typer.Option(help="Tokens per chunk [as many as the encoder takes].")
    ] = None,
    chunk_overlap: Annotated[
        int | None, typer.Option(help="Tokens that neighbouring chunks share [32].")
    ] = None,
    recall: options.Recall = None,
    durability: options.DurabilityOption = None,
    wait: options.Wait = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Read documents, chunk, embed and index them. What did not change costs nothing.

    The sub-folders of a folder are its domains, unless --domain or --domain-field says otherwise. A file that
    is named itself, or by a pattern, goes where the router sends it.
    Reads txt, md, html, json, jsonl, csv, tsv, pdf, xml (JATS, PubMed), parquet and docx.
    """
    render.verbose = verbose
    if multi_domain:
        _check_routed(paths, named=bool(domain or domain_field))
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
    with resumable(), bars.counting("documents read", "chunks encoded") as progress:
        report = moeret.index(
            paths,
            domain=domain,
            domain_field=domain_field,
            prune=prune,
            dry_run=dry_run,
            multi_domain=multi_domain,
            stdin=options.stdin(),
            progress=progress,
        )
    if json:
        render.json_line(report.to_dict())
    else:
        render.index_report(report, dry_run=dry_run, pruned=prune)
    if strict and report.rejected:
        raise typer.Exit(1)
    if nothing := wording.nothing_indexed(report, dry_run=dry_run):
        raise NothingFoundError(nothing, hint="moeret index --verbose PATH lists every reason")


def _check_routed(paths: list[str], *, named: bool) -> None:
    """That there can be a document without a domain."""
    if named:
        said = "--multi-domain is for documents without a domain: --domain and --domain-field give them one"
        raise UsageError(said, hint="leave one of them out")
    if all(Path(path).is_dir() for path in paths):
        said = "--multi-domain is for documents without a domain: those of a folder are of the folder's"
        raise UsageError(said, hint=f"name the files: moeret index '{paths[0].rstrip('/')}/*' --multi-domain")
