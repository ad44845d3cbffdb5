"""What each expert makes of each domain's texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moe_retrieval.corpus.collection import Collection
from moe_retrieval.evaluation.beir import evaluate_collection
from moe_retrieval.evaluation.encoding import once
from moe_retrieval.evaluation.pairs import evaluate_pairs
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moe_retrieval.corpus.pairs import Pair
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.evaluation.encoding import OnceEncoder
    from moe_retrieval.evaluation.figures import Figures
    from moe_retrieval.evaluation.intervals import Interval


@dataclass(frozen=True, slots=True)
class Matrix:
    """`cells[i][j]`: a measure of the texts of domain `domains[i]` through the expert of `experts[j]`."""

    model: str
    data: str
    measure: str
    domains: tuple[str, ...]
    experts: tuple[str, ...]
    cells: tuple[tuple[Interval, ...], ...]

    def best(self, row: int) -> int:
        """The column of the best expert for a domain; of equal ones the first."""
        means = [cell.mean for cell in self.cells[row]]
        return means.index(max(means))

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            "measure": self.measure,
            "domains": list(self.domains),
            "experts": list(self.experts),
            "cells": [[cell.to_dict() for cell in row] for row in self.cells],
        }


def cross_domain(
    encoder: Encoder | OnceEncoder,
    texts: Collection | Sequence[Pair],
    *,
    model: str = "",
    data: str = "",
    samples: int = 1000,
    seed: int = 0,
) -> Matrix:
    """Texts of each domain through "general" and through each domain's expert of the encoder.

    Of a collection the measure is nDCG@10 within each domain, of pairs ROC-AUC.

    Raises:
        UsageError: the collection names no domains, or no domain has pairs of both labels.
        MissingExtraError: ir_measures is not installed, for a collection.
    """
    memory = once(encoder)
    experts = (GENERAL, *(name for name in memory.encoder.domains if name != GENERAL))
    columns: list[Mapping[str, Figures]] = []
    for expert in experts:
        if isinstance(texts, Collection):
            columns.append(
                evaluate_collection(
                    memory, texts, domain=expert, within_domain=True, samples=samples, seed=seed
                ).domains
            )
        else:
            columns.append(evaluate_pairs(memory, texts, domain=expert, samples=samples, seed=seed).domains)
    measure = "ndcg_10" if isinstance(texts, Collection) else "roc_auc"
    domains = tuple(columns[0])
    return Matrix(
        model=model or memory.encoder.name,
        data=data or (texts.name if isinstance(texts, Collection) else "pairs"),
        measure=measure,
        domains=domains,
        experts=experts,
        cells=tuple(tuple(column[domain][measure] for column in columns) for domain in domains),
    )
