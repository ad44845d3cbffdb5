"""What `moeret train` says, as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeret_cli.wording import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_retrieval.adaptation import TrainReport
    from moe_retrieval.training.gate import Verdict
    from moe_retrieval.training.trainer import Progress

COLUMNS = ("domain", "queries", "before", "after", "difference, 95%", "")


def step(what: str, progress: Progress) -> str:
    """What is trained, and the last loss and look at validation."""
    loss = "" if progress.loss is None else f", loss {progress.loss:.3f}"
    seen = "" if progress.ndcg is None else f", nDCG@10 {progress.ndcg:.4f}"
    return f"training {what}{loss}{seen}"


def tables(report: TrainReport) -> Iterator[tuple[str, Sequence[Verdict]]]:
    """What was compared, and the verdicts; experts that began on the untouched base are shown once."""
    outcome = report.outcome
    if outcome.verdicts:
        yield "nDCG@10 on validation, against the general expert", outcome.verdicts
    if outcome.gains and [one.test for one in outcome.gains] != [one.test for one in outcome.verdicts]:
        yield "nDCG@10 on validation, against the model as it was", outcome.gains


def row(one: Verdict) -> tuple[str, ...]:
    """A verdict as cells."""
    test = one.test
    return (
        one.domain,
        f"{test.n:,}",
        f"{one.before:.4f}",
        f"{one.after:.4f}",
        f"{test.difference:+.4f} ({test.low:+.4f} to {test.high:+.4f})",
        "better" if one.accepted else "not better",
    )


def summary(report: TrainReport) -> Iterator[str]:
    """How it went, and what to do next."""
    outcome = report.outcome
    for course in outcome.courses:
        yield (
            f"{course.what}: {count(course.pairs, 'pair')}, {count(course.fitted.steps, 'step')}, "
            f"{course.blend.share:.0%} of the way kept"
        )
    if report.model:
        yield f"saved to {report.model} in {outcome.seconds:.0f} s"
        yield f"next: moeret reindex --model {report.model}"
    elif report.expert:
        (domain,) = report.domains
        after = "moeret index PATH --domain" if report.new else "moeret reindex --domain"
        only = "only its new table needs indexing" if report.new else "only its table is stale"
        yield f"expert {report.expert[:12]} waits in the store, {only}; no other domain is touched"
        yield f"next: {after} {domain}"
    else:
        yield "not accepted: the expert is not better than general on validation; the store is as it was"
