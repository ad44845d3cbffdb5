"""Whether one model is better than another on the same data, or whether chance would do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moe_retrieval.evaluation.figures import paired_test
from moe_retrieval.evaluation.pairs import PairEvaluation
from moe_retrieval.evaluation.rankings import MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_retrieval.evaluation.intervals import PairedTest
    from moe_retrieval.evaluation.judging import RankingEvaluation

    Evaluation = PairEvaluation | RankingEvaluation

OF_PAIRS = ("f1_max", "roc_auc")
"""Measures of pairs that two models are compared by; the others say where those come from."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much `model` is above `against` in one measure; `scope`: a domain, macro, weighted or pooled."""

    kind: str
    data: str
    scope: str
    measure: str
    model: str
    against: str
    test: PairedTest

    def to_dict(self) -> dict[str, Any]:
        names = ("kind", "data", "scope", "measure", "model", "against")
        return {name: getattr(self, name) for name in names} | self.test.to_dict()


def compare(evaluations: Sequence[Evaluation]) -> list[Difference]:
    """Every model against the first on the same data, by paired bootstrap.

    Domains with one item only have no test.

    Raises:
        UsageError: evaluations of one name are of different items.
    """
    first: dict[tuple[str, str], Evaluation] = {}
    found: list[Difference] = []
    for one in evaluations:
        base = first.setdefault((_kind(one), one.data), one)
        if base is not one:
            found += _differences(one, base)
    return found


def _differences(ours: Evaluation, theirs: Evaluation) -> Iterator[Difference]:
    against = dict(theirs.scopes)
    kind = _kind(ours)
    for scope, figures in ours.scopes:
        if scope not in against or figures.items < 2:
            continue
        for measure in OF_PAIRS if kind == "pairs" else MEASURES:
            test = paired_test(figures, against[scope], measure)
            yield Difference(kind, ours.data, scope, measure, ours.model, theirs.model, test)


def _kind(one: Evaluation) -> str:
    return "pairs" if isinstance(one, PairEvaluation) else "ranking"
