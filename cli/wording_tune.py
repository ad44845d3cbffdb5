"""What `moeret tune` and `moeret evaluate --retrieval` say, as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_retrieval.calibration import Tuning
    from moe_retrieval.tuning.judging import WayCost
    from moe_retrieval.tuning.report import Trial, TuneReport

    Rows = list[tuple[str, ...]]

TRIAL_COLUMNS = ("part", "before", "after", "difference in nDCG@10, 95%", "")

COST_TITLE = "what each way costs"
COST_COLUMNS = ("way", "queries", "domains", "right one", "median ms", "95% ms", "by stage, mean ms")


def trial_rows(trials: Sequence[Trial]) -> Rows:
    """Each part as it was and as chosen, on held-out queries."""
    return [_trial(one) for one in trials]


def _trial(one: Trial) -> tuple[str, ...]:
    test = one.test
    domains = (
        "" if one.searched is None else "; domains searched {:.2f}, before {:.2f}".format(*one.searched[::-1])
    )
    if test is None or one.before is None or one.after is None:
        return one.part.value, "", "", "", one.reason
    return (
        one.part.value,
        f"{one.before:.4f}",
        f"{one.after:.4f}",
        f"{test.difference:+.4f} ({test.low:+.4f} to {test.high:+.4f})",
        ("kept" if one.kept else "not better: not kept") + domains,
    )


def summary(report: TuneReport, *, dry_run: bool) -> Iterator[str]:
    """What was chosen, on how much, and where it is now."""
    yield f"chosen on {report.queries:,} queries, judged on {report.held:,} others of {report.source}"
    yield chosen(report.tuning)
    if report.generation:
        yield f"saved as generation {report.generation}; moeret rollback takes it back"
    elif report.gains and dry_run:
        yield "nothing was saved: --dry-run"
    else:
        yield "nothing was saved: nothing is better on the held-out queries; the store is as it was"


def chosen(tuning: Tuning) -> str:
    """The ways of a hybrid score, as in: weighted, vectors 0.70 (cvd 0.55)."""
    if tuning.weight is None:
        return f"hybrid: {tuning.within.value if tuning.within else 'as it was'}"
    own = ", ".join(f"{name} {weight:.2f}" for name, weight in sorted(tuning.weights.items()))
    return f"hybrid: vectors weigh {tuning.weight:.2f}" + (f" ({own})" if own else "")


def cost_rows(costs: Sequence[WayCost]) -> Rows:
    """Ways with the domains they search and the time they take."""
    return [
        (
            one.way,
            f"{one.queries:,}",
            f"{one.searched:.2f}",
            "" if one.right is None else f"{one.right:.3f}",
            f"{1000 * one.median:.1f}",
            f"{1000 * one.slow:.1f}",
            ", ".join(f"{stage} {1000 * seconds:.1f}" for stage, seconds in one.stages.items()),
        )
        for one in costs
    ]
