"""What is done to the hits of a query after the searches: rerank, boost, diversify, collapse, widen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from moe_retrieval.errors import MoeretError, UsageError, did_you_mean, refuse_bare
from moe_retrieval.retrieval.refining import attempts, phrasing, stored
from moe_retrieval.retrieval.refining.boosts import Boost, boosted, is_built_in
from moe_retrieval.retrieval.refining.collapse import collapse
from moe_retrieval.retrieval.refining.diversity import diversified
from moe_retrieval.retrieval.refining.widening import widened
from moe_retrieval.retrieval.rerank import BATCH, SECONDS, reranked
from moe_retrieval.retrieval.stages import Stage, Stages
from moe_retrieval.storage.tables.rows import field_name
from moe_retrieval.types import Widen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moe_retrieval.retrieval.refining.phrasing import Phrasings
    from moe_retrieval.retrieval.rerank import Reranker
    from moe_retrieval.retrieval.retriever import Answer
    from moe_retrieval.retrieval.snapshot import Snapshot
    from moe_retrieval.types import Hit, Route

MAX_CANDIDATES = 10_000

PATIENCE = 3
"""Queries of one call, one after the other, for which a reranker may fail before it is asked no more."""

NOT_RERANKED = "not reranked"


@dataclass(frozen=True, slots=True)
class Refinement:
    """How hits are refined, in this order; what is not given is not done.

    Each query is searched for `candidates` hits, or k where that is more: what is refined.
    `also` and `phrasings`: the question in other words, given or made; all are searched, and joined by rank.
    `rerank`: the order of a cross-encoder, at most `seconds` a query, `batch` texts at once.
    `boosts`: newer documents, or those with a value in a field, first.
    `mmr`: the weight of relevance against difference, 0 to 1.
    `widen`: what the text of a hit grows to.

    Raises:
        UsageError: a value is out of its range.
    """

    candidates: int = 50
    also: tuple[str, ...] = ()
    phrasings: Phrasings | None = None
    rerank: Reranker | None = None
    seconds: float = SECONDS
    batch: int = BATCH
    boosts: tuple[Boost, ...] = ()
    mmr: float | None = None
    widen: Widen | None = None

    def __post_init__(self) -> None:
        refuse_bare(self.also, "the list of other phrasings (also)")
        if not 1 <= self.candidates <= MAX_CANDIDATES:
            said = f"{self.candidates} candidates cannot be refined"
            raise UsageError(said, hint=f"ask for 1 to {MAX_CANDIDATES}")
        if self.mmr is not None and not 0 <= self.mmr <= 1:
            said = f"the weight of relevance (mmr) is {self.mmr}"
            raise UsageError(said, hint="give 0 to 1, for example 0.7")
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise UsageError(f"a reranker cannot take {self.seconds} s", hint="give seconds above 0")
        if self.batch < 1:
            raise UsageError(f"a batch of {self.batch} texts", hint="give 1 or more")


class Search(Protocol):
    """Answers texts from one generation, at most `k` hits each."""

    def __call__(self, texts: Sequence[str], *, k: int) -> list[Answer]: ...


def refined(
    texts: Sequence[str], *, k: int, refine: Refinement, search: Search, snapshot: Snapshot
) -> list[Answer]:
    """The answers to `texts`, refined, with at most `k` hits each; all phrasings are searched in one call.

    A reranker or a function for phrasings that fails or takes too long is done without: `Answer.notes` says
    so, and the snapshot's `notify` is told once. A reranker that failed for three queries in a
    row is asked no more. `snapshot`: the generation that `search` answers from.

    Raises:
        UsageError: k is out of range, `also` is given for several texts, or no document has a boost's field.
    """
    _check(texts, k=k, refine=refine, snapshot=snapshot)
    groups, notes = _phrased(texts, refine)
    found = search([text for group in groups for text in group], k=max(k, refine.candidates))
    answers: list[Answer] = []
    failed = 0
    for group, said in zip(groups, notes, strict=True):
        part, found = found[: len(group)], found[len(group) :]
        if failed == PATIENCE:
            refine = replace(refine, rerank=_GivenUp())
        answers.append(_refined(part, said, k=k, refine=refine, snapshot=snapshot))
        failed = failed + 1 if any(note.startswith(NOT_RERANKED) for note in answers[-1].notes) else 0
    for note in dict.fromkeys(note for answer in answers for note in answer.notes):
        snapshot.notify(note)
    return answers


def _check(texts: Sequence[str], *, k: int, refine: Refinement, snapshot: Snapshot) -> None:
    if not 1 <= k <= MAX_CANDIDATES:
        raise UsageError(f"k is {k}", hint=f"ask for 1 to {MAX_CANDIDATES} hits")
    if refine.also and len(texts) > 1:
        said = f"other phrasings are given for {len(texts)} queries"
        raise UsageError(said, hint="ask one at a time, or give a function for phrasings")
    for boost in refine.boosts:
        if not is_built_in(boost.field) and field_name(boost.field) not in snapshot.fields():
            hint = did_you_mean(boost.field, sorted(snapshot.fields()))
            raise UsageError(f"no document has the field {boost.field!r}", hint=hint)


def _phrased(texts: Sequence[str], refine: Refinement) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The phrasings of every text, itself first, and a note where they could not be made."""
    groups: list[tuple[str, ...]] = []
    notes: list[tuple[str, ...]] = []
    for text in texts:
        made = _others(text, refine)
        groups.append(phrasing.distinct(text, [*refine.also, *(made.value or ())]))
        note = f"searched without other phrasings: making them {made.problem}"
        notes.append((note,) if made.problem else ())
    return groups, notes


def _others(text: str, refine: Refinement) -> attempts.Outcome[list[str]]:
    make = refine.phrasings
    if make is None:
        return attempts.Outcome([])
    return attempts.attempt(lambda _over: _texts(make(text)), seconds=refine.seconds)


def _texts(made: Sequence[str]) -> list[str]:
    """What a caller's function gave, if it is what it should give."""
    refuse_bare(made, "what it gave")
    if strange := [one for one in made if not isinstance(one, str)]:
        raise TypeError(f"{strange[0]!r} is no text")
    return [*made]


def _refined(
    answers: Sequence[Answer], notes: tuple[str, ...], *, k: int, refine: Refinement, snapshot: Snapshot
) -> Answer:
    """The answers to all phrasings of one question as one, refined."""
    stages = Stages()
    hits = collapse(phrasing.joined([answer.hits for answer in answers]))[: max(k, refine.candidates)]
    if refine.rerank is not None:
        with stages.of(Stage.RERANK):
            hits, said = _reranked(hits, answers[0].query, refine.rerank, refine)
        notes += said
    with stages.of(Stage.ORDER):
        if refine.boosts:
            hits = boosted(hits, refine.boosts)
        if refine.mmr is not None:
            hits = _diversified(hits, refine.mmr, snapshot, k=len(hits) if refine.widen else k)
    if refine.widen is not None:
        with stages.of(Stage.WIDEN):
            grown = widened(hits, widen=refine.widen, snapshot=snapshot, k=k)
        hits, notes = list(grown.hits), notes + _short(grown.short, refine.widen)
    return replace(
        answers[0],
        hits=tuple(replace(hit, rank=rank) for rank, hit in enumerate(hits[:k], start=1)),
        routes=_routes(answers),
        timings=_summed([answer.timings for answer in answers]) | stages.seconds,
        notes=(*answers[0].notes, *notes),
    )


def _reranked(
    hits: list[Hit], query: str, reranker: Reranker, refine: Refinement
) -> tuple[list[Hit], tuple[str, ...]]:
    found = reranked(hits, query=query, reranker=reranker, seconds=refine.seconds, batch=refine.batch)
    return (hits, (f"{NOT_RERANKED}: {found.problem}",)) if found.value is None else (found.value, ())


class _GivenUp:
    """In the place of a reranker that failed again and again."""

    def score(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        raise MoeretError(f"{PATIENCE} times in a row, and is asked no more")


def _diversified(hits: list[Hit], weight: float, snapshot: Snapshot, *, k: int) -> list[Hit]:
    spaces = [snapshot.space(hit.domain) for hit in hits]
    return diversified(hits, vectors=stored.vectors(hits, snapshot), spaces=spaces, weight=weight, k=k)


def _short(number: int, widen: Widen) -> tuple[str, ...]:
    if not number:
        return ()
    said = "1 hit grew" if number == 1 else f"{number} hits grew"
    what = "their documents" if widen is Widen.PARENT else "their sections"
    return (f"{said} to less than {what}: a source is not as it was indexed, or cannot be read again",)


def _routes(answers: Sequence[Answer]) -> tuple[Route, ...]:
    """Every domain that a phrasing was sent to, under its best probability."""
    best: dict[str, Route] = {}
    for route in (route for answer in answers for route in answer.routes):
        if route.domain not in best or best[route.domain].probability < route.probability:
            best[route.domain] = route
    return tuple(best.values())


def _summed(timings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in timings for name in one)
    return {name: sum(one.get(name, 0.0) for one in timings) for name in names}
