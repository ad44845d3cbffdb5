"""How well an encoder tells pairs of texts that belong together from others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.encoding import once
from moe_retrieval.evaluation.figures import over_domains
from moe_retrieval.evaluation.pair_bootstrap import pair_figures
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from moe_retrieval.corpus.pairs import Pair
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.evaluation.encoding import OnceEncoder
    from moe_retrieval.evaluation.figures import Figures


@dataclass(frozen=True, slots=True)
class PairEvaluation:
    """One model on one set of pairs: `PAIR_MEASURES` of each domain, and over the domains.

    `macro`: the mean of the domains; `weighted`: by their pairs; `pooled`: all pairs as one set, those of
    domains `left_out` of the others (pairs of one label only) included. `experts`: the expert (a sha256, or
    "general") that each domain's texts went through.
    """

    model: str
    data: str
    domains: Mapping[str, Figures]
    macro: Figures
    weighted: Figures
    pooled: Figures
    left_out: tuple[str, ...]
    experts: Mapping[str, str]
    scores: NDArray[np.float64] = field(repr=False, compare=False)
    labels: NDArray[np.int64] = field(repr=False, compare=False)

    @property
    def scopes(self) -> Iterator[tuple[str, Figures]]:
        """Every domain and what is over them, by name."""
        yield from self.domains.items()
        yield from (("macro", self.macro), ("weighted", self.weighted), ("pooled", self.pooled))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the figures must know."""
        return tuple(
            f"{self.data}: domain {domain!r} has pairs of one label only; it counts in pooled alone"
            for domain in self.left_out
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            "domains": {name: figures.to_dict() for name, figures in self.domains.items()},
            **{name: figures.to_dict() for name, figures in self.scopes if name not in self.domains},
            "left_out": list(self.left_out),
            "experts": dict(self.experts),
        }


def evaluate_pairs(
    encoder: Encoder | OnceEncoder,
    pairs: Sequence[Pair],
    *,
    model: str = "",
    data: str = "pairs",
    domain: str = "",
    samples: int = 1000,
    seed: int = 0,
) -> PairEvaluation:
    """The figures of an encoder on pairs, each domain's texts by its own expert; all by `domain`'s, if given.

    A pair without a domain belongs to "general".

    Raises:
        UsageError: there are no pairs, or no domain has pairs of both labels.
    """
    memory = once(encoder)
    scores = score_pairs(memory, pairs, domain=domain)
    experts = {name: memory.encoder.expert_of(domain or name) for name in sorted(map(_domain, pairs))}
    return judge_scores(
        scores,
        pairs,
        model=model or memory.encoder.name,
        data=data,
        experts=experts,
        samples=samples,
        seed=seed,
    )


def score_pairs(
    encoder: Encoder | OnceEncoder, pairs: Sequence[Pair], *, domain: str = ""
) -> NDArray[np.float64]:
    """Cosines (n,) of the pairs' texts, both encoded as documents; each text once per expert."""
    memory = once(encoder)
    places: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        places.setdefault(domain or _domain(pair), []).append(place)
    scores = np.empty(len(pairs))
    for name, own in sorted(places.items()):
        texts = [pairs[place].a for place in own] + [pairs[place].b for place in own]
        vectors = memory.documents(texts, domain=name).astype(np.float64)
        scores[own] = (vectors[: len(own)] * vectors[len(own) :]).sum(axis=1)
    return scores


def judge_scores(
    scores: NDArray[np.float64],
    pairs: Sequence[Pair],
    *,
    model: str,
    data: str = "pairs",
    experts: Mapping[str, str] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> PairEvaluation:
    """The figures of scores (n,) that any system gave to pairs.

    Raises:
        UsageError: there are no pairs, or no domain has pairs of both labels.
    """
    if not pairs:
        raise UsageError(f"{data} holds no pairs to evaluate", hint="give labelled pairs, of both labels")
    labels = np.array([pair.label for pair in pairs])
    names = np.array([_domain(pair) for pair in pairs])
    domains: dict[str, Figures] = {}
    left_out = []
    for number, name in enumerate(sorted(set(names.tolist())), start=1):
        own = names == name
        if len(set(labels[own].tolist())) < 2:
            left_out.append(name)
            continue
        domains[name] = pair_figures(scores[own], labels[own], samples=samples, seed=(seed, number))
    if not domains:
        raise UsageError(
            f"{data}: no domain has pairs of both labels ({', '.join(left_out)})",
            hint="add pairs with label 0 (or 1) to each domain",
        )
    parts = list(domains.values())
    return PairEvaluation(
        model=model,
        data=data,
        domains=domains,
        macro=over_domains(parts),
        weighted=over_domains(parts, weighted=True),
        pooled=pair_figures(scores, labels, samples=samples, seed=(seed, 0)),
        left_out=tuple(left_out),
        experts=dict(experts or {}),
        scores=scores,
        labels=labels,
    )


def _domain(pair: Pair) -> str:
    return pair.domain or GENERAL
