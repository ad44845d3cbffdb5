"""Options that say how hits are refined: reranked, boosted, told apart, widened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moe_retrieval.errors import UsageError
from moe_retrieval.types import Widen

if TYPE_CHECKING:
    from moe_retrieval.retrieval.refine import Refinement

Rerank = Annotated[
    str | None,
    typer.Option("--rerank", metavar="MODEL", help="Reorder by a cross-encoder: its folder or hub id."),
]
RerankSeconds = Annotated[
    float | None,
    typer.Option("--rerank-seconds", metavar="SECONDS", help="What it may take, else go without it [10]."),
]
Mmr = Annotated[
    float | None,
    typer.Option("--mmr", metavar="WEIGHT", help="Tell hits apart: weight of relevance, 0 to 1, as in 0.7."),
]
Boosts = Annotated[
    list[str] | None,
    typer.Option(
        "--boost",
        metavar="BOOST",
        help="Prefer documents: year~5 (newer; half per 5 years), journal=BMJ; weight: year~5^0.3 [0.2].",
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option("--also", metavar="TEXT", help="The question in other words; may be repeated."),
]
WidenOption = Annotated[
    Widen | None,
    typer.Option(
        "--widen", case_sensitive=False, help="Let hits grow to the chunks beside them, or all around."
    ),
]
Candidates = Annotated[
    int | None,
    typer.Option("--candidates", metavar="N", help="Hits that are reordered, to choose the best from [50]."),
]


def refinement(
    *,
    rerank: str | None,
    seconds: float | None,
    mmr: float | None,
    boost: list[str] | None,
    also: list[str] | None,
    widen: Widen | None,
    candidates: int | None,
    device: str | None = None,
) -> Refinement | None:
    """What the options ask for; None where they ask for nothing. The cross-encoder is loaded."""
    if seconds is not None and rerank is None:
        raise UsageError("--rerank-seconds goes with --rerank", hint="name a cross-encoder: --rerank MODEL")
    given = any(one is not None for one in (rerank, candidates, mmr))  # "" and 0 mean something, too
    if not (given or boost or also or widen):
        return None
    from moe_retrieval.retrieval.refine import Refinement
    from moe_retrieval.retrieval.refining.boosts import parse_boost

    asked = Refinement(
        also=tuple(also or ()),
        boosts=tuple(parse_boost(text) for text in boost or ()),
        mmr=mmr,
        widen=widen,
    )
    return _judged(asked, rerank=rerank, seconds=seconds, candidates=candidates, device=device or "")


def _judged(
    asked: Refinement, *, rerank: str | None, seconds: float | None, candidates: int | None, device: str
) -> Refinement:
    """With the cross-encoder, which takes seconds to load: what else is wrong has been said before."""
    from dataclasses import replace

    if candidates is not None:
        asked = replace(asked, candidates=candidates)
    if seconds is not None:
        asked = replace(asked, seconds=seconds)
    if rerank is None:
        return asked
    from moe_retrieval.retrieval.rerank import CrossEncoderReranker

    return replace(asked, rerank=CrossEncoderReranker.load(rerank, device=device))
