"""`moeret context`: cited text for a language model, within a token budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moe_retrieval.contexts import ContextFormat, ContextOrder
from moeret_cli import options, refining, render
from moeret_cli.query import NOTHING_FOUND, nothing_found
from moeret_cli.questions import read_text

if TYPE_CHECKING:
    from moe_retrieval.moeret import Moeret

ROUTED = "the domains that the question was routed to"
"""In the place of their names, which a context does not say."""

Tokenizer = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="NAME",
        help="What counts tokens: tokenizer.json, folder, cached hub id or tiktoken:NAME [the encoder's].",
    ),
]
Order = Annotated[
    ContextOrder,
    typer.Option("--order", case_sensitive=False, help="How the sources follow each other."),
]
PerDocument = Annotated[
    int | None, typer.Option("--per-document", metavar="N", help="At most N chunks of one document.")
]
PerDomain = Annotated[
    int | None, typer.Option("--per-domain", metavar="N", help="At most N chunks of one domain.")
]


def context(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="The question, or - for standard input.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option("--budget", "-b", help="Tokens the context may have [1500].")
    ] = None,
    tokenizer: Tokenizer = None,
    form: Annotated[
        ContextFormat, typer.Option("--format", "-f", case_sensitive=False, help="Outer form.")
    ] = ContextFormat.MARKDOWN,
    order: Order = ContextOrder.RELEVANCE,
    per_document: PerDocument = None,
    per_domain: PerDomain = None,
    k: Annotated[int, typer.Option("-k", help="Hits to choose from.")] = 50,
    domain: options.Domains = None,
    mode: options.ModeOption = None,
    where: options.Where = None,
    fusion: options.Fusion = None,
    weight: options.Weight = None,
    rerank: refining.Rerank = None,
    rerank_seconds: refining.RerankSeconds = None,
    mmr: refining.Mmr = None,
    boost: refining.Boosts = None,
    also: refining.Also = None,
    widen: refining.WidenOption = None,
    candidates: refining.Candidates = None,
    store: options.Store = None,
    model: options.Model = None,
    precision: options.PrecisionOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Assemble the best hits into one text: deduplicated, joined, fenced, with numbered citations.

    Tokens of the whole text are counted, fences and headers included. --json prints one object with the keys
    text, tokens, budget, citations, generation, which moeret cite verify reads; so does --format json, whose
    text is JSON as well.
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
        tokenizer=tokenizer,
        fusion=fusion,
        vector_weight=weight,
    )
    refine = refining.refinement(
        rerank=rerank,
        seconds=rerank_seconds,
        mmr=mmr,
        boost=boost,
        also=also,
        widen=widen,
        candidates=candidates,
        device=device,
    )
    from moe_retrieval.retrieval.context import ContextOptions

    wanted = ContextOptions(
        budget=moeret.settings.budget,
        form=form,
        order=order,
        tokenizer=moeret.settings.tokenizer,
        per_document=per_document,
        per_domain=per_domain,
    )
    found = moeret.context(asked, options=wanted, k=k, domains=domain, where=where, refine=refine)
    as_object = json or form is ContextFormat.JSON
    if as_object:
        render.json_line(found.to_dict())
    if not found.citations:
        render.note(nothing_found(moeret, domain or _searched(moeret), filtered=where is not None))
        raise typer.Exit(NOTHING_FOUND)
    if not as_object:
        render.raw(found.text)


def _searched(moeret: Moeret) -> list[str]:
    """Where a question was searched that named no domain."""
    names = [one.domain for one in moeret.status().domains]
    return names if len(names) == 1 else [ROUTED]
