"""What the program says, as plain text. Nothing here writes; `render` shows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from moe_retrieval.models import ExpertPair, ModelInfo
    from moe_retrieval.retrieval.answer import Answer
    from moe_retrieval.status import DomainStatus
    from moe_retrieval.types import Forgotten, Hit, IndexReport, Rerouted

SHOWN_REASONS = 10
SHOWN_TEXT = 300
_FOLDED = {ord("\n"): " ", ord("\t"): " "}
_PARSERS_WORDS = re.compile(r"(?<=: )Value error, |, unable to parse string as an? \w+")
"""What the library that reads the command line says of itself."""


def clean(text: str) -> str:
    """Text of a document, a file name or a user, fit for a terminal: on one line, and nothing in it that is
    not seen.
    """
    from moe_retrieval.retrieval.citations.rendering import visible

    return visible(text).translate(_FOLDED)


def misuse(message: str) -> str:
    """A sentence on a command line that means nothing, in the words of this program."""
    said = _PARSERS_WORDS.sub("", message).replace(": Input should be ", ": it should be ").removesuffix(".")
    return said[:1].lower() + said[1:]


def count(number: int, noun: str) -> str:
    """A number of things, as in: 1 document, 1,204 chunks."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def short_path(path: str) -> str:
    """A path as a person would type it here: relative where it lies below the working folder."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):  # the working folder may be gone
        return path


def index_summary(report: IndexReport, *, dry_run: bool) -> Iterator[str]:
    """What an index run did, or would do."""
    for domain, chunks in report.domains.items():
        yield f"{domain}: {count(chunks, 'chunk')}"
    would = "would be " if dry_run else ""
    changes = [f"{report.unchanged:,} unchanged", f"{report.removed:,} {would}removed"]
    if report.moved:
        changes.append(f"{report.moved:,} {would}moved")
    encoded = f"would encode {count(report.encoded, 'chunk')}" if dry_run else f"{report.encoded:,} encoded"
    yield (
        f"{count(report.documents, 'document')} ({', '.join(changes)}), "
        f"{count(report.chunks, 'chunk')} in the store, {encoded}, {report.seconds:.1f} s"
    )


def index_notes(report: IndexReport, *, dry_run: bool, verbose: bool, pruned: bool) -> Iterator[str]:
    """What an index run left out and why, and what to do about it."""
    for domain, number in report.routed.items():
        yield f"routed to {domain}: {count(number, 'document')} without a domain"
    if report.rerouted:
        yield rerouting(report.rerouted)
    if report.forgotten:
        yield forgetting(report.forgotten)
    if report.shared:
        yield f"in several domains: {count(report.shared, 'document')}"
    yield from _reasons("skipped", [(one.source, one.reason) for one in report.skipped], everything=verbose)
    yield from _reasons(
        "rejected", [(one.source, one.reason) for one in report.rejections], everything=verbose
    )
    if report.rejected and report.documents:
        rest = "would be" if dry_run else "is"
        yield (
            f"warning: {report.rejected:,} rejected, the rest {rest} indexed "
            "(--strict makes this exit code 1)"
        )
    if report.vanished and not pruned:
        them = "it" if report.vanished == 1 else "them"
        yield f"gone from these paths: {count(report.vanished, 'stored document')}; --prune deletes {them}"


def rerouting(found: Rerouted) -> str:
    """How routing changed with the domains of the store."""
    share = 100 * found.changed / max(found.texts, 1)
    said = f"routing: {found.changed:,} of {count(found.texts, 'known text')} ({share:.1f}%) now go elsewhere"
    return said + "".join(f", {number:,} to {domain}" for domain, number in found.to.items())


def forgetting(found: Forgotten) -> str:
    """What a store no longer knows of judged queries, and what teaches it again."""
    what = [count(found.questions, "question") + " that the router knew"] if found.questions else []
    if found.calibrations:
        what.append(f"the judged calibration of {', '.join(found.calibrations)}")
    return f"forgotten: {' and '.join(what)}; moeret tune DIR teaches them again"


def nothing_indexed(report: IndexReport, *, dry_run: bool) -> str:
    """Why no document at all was accepted; empty where one was, or where there was none."""
    left_out = {"rejected": report.rejected, "skipped": len(report.skipped)}
    if report.documents or not any(left_out.values()):
        return ""
    reasons = ", ".join(f"{number:,} {what}" for what, number in left_out.items() if number)
    return f"nothing {'would be' if dry_run else 'was'} indexed: {reasons}"


def _reasons(what: str, items: Sequence[tuple[str, str]], *, everything: bool) -> Iterator[str]:
    shown = items if everything else items[:SHOWN_REASONS]
    for source, reason in shown:
        yield f"{what}: {short_path(source)}: {reason}"
    if len(items) > len(shown):
        yield f"{what}: {len(items) - len(shown):,} more; --verbose or --json lists all"


def like_nothing(number: int, *, of: int) -> str:
    """That the router knows no domain for questions."""
    if of == 1:
        return "the question is like none of the domains: all were searched"
    are, were = ("is", "was") if number == 1 else ("are", "were")
    return f"{number:,} of {of:,} questions {are} like none of the domains, and {were} searched in all"


def route(found: Answer) -> str:
    """Where a question was searched, and in what."""
    routes = ", ".join(f"{route.domain} {route.probability:.2f}" for route in found.routes)
    why = "like none of the domains, so all are searched; " if found.abstained else ""
    return f"route: {routes} ({why}generation {found.generation})"


def no_hits(searched: Sequence[str], *, others: Collection[str], filtered: bool) -> str:
    """Where nothing was found, and where else one could look."""
    where = ", ".join(searched)
    said = f"no hits: nothing in {where} matches the filter" if filtered else f"no hits in {where}"
    return f"{said}; --domain NAME searches others" if others else said


def place(hit: Hit) -> str:
    """Where a hit stands: document, source with offsets, page, section."""
    page = f" p. {hit.page}" if hit.page is not None else ""
    source = f"{short_path(hit.source)}:{hit.start}-{hit.end}{page}"
    return " | ".join(filter(None, (hit.doc_id, source, hit.section)))


def beginning(text: str) -> str:
    """The first words of a text."""
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_TEXT else text[:SHOWN_TEXT].rstrip() + " ..."


def searches(hit: Hit) -> str:
    """The rank and score a hit had in each search, and what was done to it then."""
    why = hit.why
    vector, text = _ranked(why.vector_rank, why.vector_score), _ranked(why.text_rank, why.text_score)
    return f"vector {vector}, text {text}{''.join(_refined(hit))}"


def _refined(hit: Hit) -> Iterator[str]:
    why = hit.why
    if why.phrasing_ranks:
        yield f", phrasings {' '.join('-' if rank is None else f'#{rank}' for rank in why.phrasing_ranks)}"
    if why.rerank_score is not None:
        yield f", reranked {why.rerank_score:.3f}"
    if why.boost is not None:
        yield f", boosted {why.boost:+.3f}"
    if why.fused_score is not None:
        yield f", before {why.fused_score:.3f}"
    if why.copies:
        yield f", also in {' '.join(why.copies)}"
    if why.found is not None:
        yield f", found at {why.found[0]}-{why.found[1]}"


def _ranked(rank: int | None, score: float | None) -> str:
    return "-" if rank is None else f"#{rank} ({score:.3f})"


def status_row(one: DomainStatus, *, wanted_recall: float) -> tuple[str, ...]:
    """One domain as a row: domain, documents, chunks, expert, index, recall@10, written since."""
    candidate = f" (candidate {one.candidate[:12]}: moeret reindex)" if one.candidate else ""
    counts = (one.domain, f"{one.documents:,}", f"{one.chunks:,}", one.expert[:12] + candidate)
    index = one.index
    if index is None:
        return (*counts, "none: moeret index" if one.chunks else "-", "-", "-")
    recall = "-" if index.recall_at_10 is None else f"{index.recall_at_10:.3f}"
    mark = " (low)" if is_low(one, wanted_recall=wanted_recall) else ""
    return (*counts, f"{index.engine} {index.factory}", recall + mark, f"{index.tail:,}")


def is_low(one: DomainStatus, *, wanted_recall: float) -> bool:
    """Whether the index of a domain was measured to find less than is wanted."""
    recall = one.index.recall_at_10 if one.index else None
    return recall is not None and recall < wanted_recall


def model_facts(found: ModelInfo) -> list[tuple[str, str]]:
    """Lines about a model: what, and what it is."""
    layers = "all" if len(found.moe_layers) == found.layers else ", ".join(map(str, found.moe_layers))
    sizes = ", ".join(f"{name} {millions(size)}" for name, size in found.experts.items())
    top = f", top {found.top_k}" if found.routing in ("sentence", "token") else ""
    return [
        ("model", f"{found.name} ({found.family})"),
        ("parameters", f"{millions(found.parameters)} in all, {millions(found.active)} for one text"),
        ("experts", f"{sizes}; in layers: {layers} of {found.layers}"),
        ("routing", f"{found.routing}{top}"),
        ("vectors", f"{found.dim} values, {found.pooling}, texts of up to {found.max_length} tokens"),
    ]


def millions(count: int) -> str:
    """A number of parameters, as in 22.6M."""
    return f"{count / 1e6:.1f}M" if count >= 100_000 else f"{count:,}"


def pair_row(pair: ExpertPair) -> tuple[str, ...]:
    """Two experts as cells of a table."""
    mark = "duplicate" if pair.duplicate else ""
    return (
        f"{pair.one}, {pair.other}",
        f"{pair.distance:.4f}",
        f"{pair.cosine:.3f}",
        f"{pair.output:.4f}",
        mark,
    )
