"""`moeret query`: ranked hits for one text, or for a file of queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe_retrieval.errors import UsageError
from moeret_cli import options, questions, refining, render, wording

if TYPE_CHECKING:
    from collections.abc import Collection

    from moe_retrieval.moeret import Moeret
    from moe_retrieval.retrieval.retriever import Answer

NOTHING_FOUND = 3


def query(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to look for, or - for standard input.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries", metavar="FILE", help='JSON lines {"_id", "text"} in place of TEXT; - for stdin.'
        ),
    ] = None,
    k: Annotated[int | None, typer.Option("-k", help="Hits per query [10].")] = None,
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
    explain: Annotated[bool, typer.Option("--explain", help="Show route, ranks and scores.")] = False,
    store: options.Store = None,
    model: options.Model = None,
    precision: options.PrecisionOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Search the store: routed to the fewest domains likely to hold the answer, best hits first."""
    asked = asked_for(text, queries)
    moeret = options.open_store(
        quiet=quiet,
        store=store,
        model=model,
        precision=precision,
        engine=engine,
        device=device,
        k=k,
        mode=mode,
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
    answers = moeret.query_many(list(asked.values()), domains=domain, where=where, refine=refine)
    for name, answer in zip(asked, answers, strict=True):
        show(name, answer, json=json, explain=explain, several=len(asked) > 1)
    if strange := sum(answer.abstained for answer in answers):
        render.note(wording.like_nothing(strange, of=len(answers)))
    if not any(answer.hits for answer in answers):
        searched = set(domain or ()) | {route.domain for answer in answers for route in answer.routes}
        render.note(nothing_found(moeret, searched, filtered=where is not None))
        raise typer.Exit(NOTHING_FOUND)


def asked_for(text: str | None, queries: Path | None) -> dict[str, str]:
    """The texts to look for, by query id."""
    if queries is None:
        return {"1": questions.read_text(text, hint='moeret query "a question", or --queries FILE')}
    if text is not None:
        raise UsageError("TEXT and --queries exclude each other", hint="leave one of them out")
    return questions.read_queries(queries)


def show(name: str, answer: Answer, *, json: bool, explain: bool, several: bool) -> None:
    """Print one answer."""
    if not json:
        render.answer(answer, explain=explain, title=name if several else "")
        return
    for hit in answer.hits:
        record = {"query_id": name} | hit.to_dict()
        why = record.pop("why")
        render.json_line(record | {"why": why} if explain else record)


def nothing_found(moeret: Moeret, searched: Collection[str], *, filtered: bool) -> str:
    """Where nothing was found, and whether the store has more domains to look in."""
    others = {one.domain for one in moeret.status().domains} - set(searched)
    return wording.no_hits(sorted(searched), others=others, filtered=filtered)
