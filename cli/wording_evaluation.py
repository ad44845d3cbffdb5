"""What `moeret evaluate` says, as plain text. Nothing here writes; `render` shows it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_retrieval.evaluation.compare import Difference
    from moe_retrieval.evaluation.intervals import Interval
    from moe_retrieval.evaluation.judging import RankingEvaluation
    from moe_retrieval.evaluation.matrix import Matrix
    from moe_retrieval.evaluation.pairs import PairEvaluation
    from moe_retrieval.evaluation.report import EvaluationReport

    Evaluations = Sequence[PairEvaluation | RankingEvaluation]
    Rows = list[tuple[str, ...]]

NAMES = {
    "f1_max": "F1max",
    "roc_auc": "ROC-AUC",
    "ndcg_10": "nDCG@10",
    "recall_10": "Recall@10",
    "recall_100": "Recall@100",
    "mrr_10": "MRR@10",
    "map_100": "MAP@100",
}
"""How measures are called in a table."""

PAIR_COLUMNS = (
    "domain", "model", "pairs", "F1max", "floor", "threshold", "precision", "recall", "ratio", "ROC-AUC",
)  # fmt: skip
RANKING_COLUMNS = ("domain", "model", "queries", *(NAMES[name] for name in list(NAMES)[2:]))
DIFFERENCE_COLUMNS = ("domain", "model", "measure", "difference", "p")
SHOWN = ("roc_auc", "ndcg_10", "f1_max")
"""Measures whose differences a table shows; --json has all."""


def tables(report: EvaluationReport) -> Iterator[tuple[str, tuple[str, ...], Rows]]:
    """Title, columns and rows of every table of a report: per set, models side by side, then differences."""
    for data in dict.fromkeys(one.data for one in report.pairs):
        pairs = [one for one in report.pairs if one.data == data]
        yield f"{data}: pairs", PAIR_COLUMNS, pair_rows(pairs)
        yield from _compared(report, kind="pairs", data=data)
    for data in dict.fromkeys(one.data for one in report.rankings):
        rankings = [one for one in report.rankings if one.data == data]
        yield f"{data}: rankings", RANKING_COLUMNS, ranking_rows(rankings)
        yield from _compared(report, kind="ranking", data=data)
    for matrix in report.matrices:
        yield matrix_title(matrix), ("texts of", *matrix.experts), matrix_rows(matrix)


def _compared(
    report: EvaluationReport, *, kind: str, data: str
) -> Iterator[tuple[str, tuple[str, ...], Rows]]:
    found = [one for one in report.differences if (one.kind, one.data) == (kind, data)]
    if found:
        yield f"{data}: differences to {found[0].against}", DIFFERENCE_COLUMNS, difference_rows(found)


def figure(found: Interval) -> str:
    """A figure with its interval, as in: 0.786 [0.770, 0.801]."""
    if math.isnan(found.low):
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def pair_rows(evaluations: Sequence[PairEvaluation]) -> Rows:
    """Every domain and what is over them, model under model; floor: F1 of calling every pair positive."""
    return [
        (
            scope,
            model,
            f"{found.count:,}",
            figure(found["f1_max"]),
            f"{found['floor'].mean:.3f}",
            *(figure(found[name]) for name in ("threshold", "precision", "recall", "ratio", "roc_auc")),
        )
        for scope, model, found in _by_scope(evaluations)
    ]


def ranking_rows(evaluations: Sequence[RankingEvaluation]) -> Rows:
    """Every domain and what is over them, model under model."""
    return [
        (scope, model, f"{found.count:,}", *(figure(found[name]) for name in found.measures))
        for scope, model, found in _by_scope(evaluations)
    ]


def _by_scope(evaluations: Evaluations) -> Iterator[tuple[str, str, Any]]:
    # of one domain, what is over the domains would say the same again
    scopes = [*evaluations[0].domains] if _single(evaluations[0]) else [*dict(evaluations[0].scopes)]
    for scope in scopes:
        for one in evaluations:
            yield scope, one.model, dict(one.scopes)[scope]


def _single(one: PairEvaluation | RankingEvaluation) -> bool:
    return len(one.domains) == 1 and next(iter(one.domains.values())).count == one.pooled.count


def difference_rows(differences: Sequence[Difference]) -> Rows:
    """Differences to the first model, with their intervals and p-values."""
    return [
        (
            one.scope,
            one.model,
            NAMES[one.measure],
            f"{one.test.difference:+.3f} [{one.test.low:+.3f}, {one.test.high:+.3f}]",
            p_value(one.test.p_value),
        )
        for one in differences
        if one.measure in SHOWN
    ]


def p_value(value: float) -> str:
    """A p-value to three digits, as in: 0.032, <0.001."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def matrix_rows(matrix: Matrix) -> Rows:
    """Domains down, experts across; a star marks the best of a row."""
    return [
        (
            domain,
            *(
                f"{figure(cell)}{' *' if matrix.best(row) == column else ''}"
                for column, cell in enumerate(matrix.cells[row])
            ),
        )
        for row, domain in enumerate(matrix.domains)
    ]


def matrix_title(matrix: Matrix) -> str:
    """What a matrix shows."""
    return f"{matrix.data}, {matrix.model}: {NAMES[matrix.measure]} of each domain's texts by each expert"
