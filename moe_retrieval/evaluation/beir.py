"""How well an encoder ranks the documents of a test collection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.errors import UsageError
from moe_retrieval.evaluation.encoding import once
from moe_retrieval.evaluation.judging import judge_run
from moe_retrieval.evaluation.rankings import rank_documents
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from moe_retrieval.corpus.collection import Collection
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.evaluation.encoding import OnceEncoder
    from moe_retrieval.evaluation.judging import RankingEvaluation


@dataclass(frozen=True, slots=True)
class _Part:
    """Queries and documents that are compared with each other, by the expert of one domain."""

    name: str
    expert: str
    queries: list[str]
    documents: list[str]


def evaluate_collection(
    encoder: Encoder | OnceEncoder,
    collection: Collection,
    *,
    model: str = "",
    data: str = "",
    domain: str = "",
    within_domain: bool | None = None,
    k: int = 100,
    by_group: bool = False,
    samples: int = 1000,
    seed: int = 0,
) -> RankingEvaluation:
    """The figures of exact search in a collection, by cosine; long documents in the encoder's own windows.

    Each query is ranked against the documents of its domain by its domain's expert; with `domain`, all are
    ranked against all by that domain's. `within_domain` True keeps domains apart in that case, too, and False
    joins them in any case (by the expert of "general", where no `domain` is given). A document that is the
    query itself, by id and by text, is no answer. `by_group`: see `judge_run`.

    Raises:
        UsageError: k is below 1, domains are to be kept apart and the collection names none, or no query has
            a document in its domain.
        MissingExtraError: ir_measures is not installed.
    """
    memory = once(encoder)
    apart = not domain and has_domains(collection) if within_domain is None else within_domain
    if apart and not has_domains(collection):
        raise UsageError(
            f"{collection.name} names no domains of queries and documents",
            hint='give records a "domain", or rank all against all',
        )
    parts = list(_by_domain(collection, domain=domain) if apart else _whole(collection, domain=domain))
    run: dict[str, dict[str, float]] = {}
    for part in parts:
        run |= _ranked(memory, collection, part, k=k)
    if not run:
        raise UsageError(
            f"{collection.name} has no query with a document in its domain", hint="check domains"
        )
    return judge_run(
        run,
        {query: collection.qrels[query] for query in collection.queries if query in run},
        model=model or memory.encoder.name,
        data=data or collection.name,
        domains={query: part.name for part in parts for query in part.queries} if apart else None,
        experts={part.name: memory.encoder.expert_of(part.expert) for part in parts},
        by_group=by_group,
        warnings=list(_warnings(collection, parts)),
        samples=samples,
        seed=seed,
    )


def has_domains(collection: Collection) -> bool:
    """Whether queries and documents of a collection name domains."""
    return bool(collection.query_domains) and bool(collection.document_domains)


def _whole(collection: Collection, *, domain: str) -> Iterator[_Part]:
    name = domain or GENERAL
    yield _Part(name, name, list(collection.queries), list(collection.documents))


def _by_domain(collection: Collection, *, domain: str) -> Iterator[_Part]:
    """One part for each domain of queries; what names none belongs to "general"."""
    queries = _grouped(collection.queries, collection.query_domains)
    documents = _grouped(collection.documents, collection.document_domains)
    for name in sorted(queries):
        if name in documents:
            yield _Part(name, domain or name, queries[name], documents[name])


def _grouped(names: Iterable[str], domains: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(domains.get(name, GENERAL), []).append(name)
    return found


def _ranked(
    memory: OnceEncoder, collection: Collection, part: _Part, *, k: int
) -> dict[str, dict[str, float]]:
    """The best k documents of each query of a part."""
    texts, asked = collection.documents, collection.queries
    own = {query for query in part.queries if texts.get(query) == asked[query]}
    documents = memory.documents([texts[name] for name in part.documents], domain=part.expert)
    queries = memory.queries([asked[name] for name in part.queries], domain=part.expert)
    positions, scores = rank_documents(queries, documents, k=k + bool(own))
    return {
        query: _answers(
            part.documents, positions[row], scores[row], without=query if query in own else "", k=k
        )
        for row, query in enumerate(part.queries)
    }


def _answers(
    names: Sequence[str],
    positions: NDArray[np.int64],
    scores: NDArray[np.float32],
    *,
    without: str,
    k: int,
) -> dict[str, float]:
    ranked = [(names[place], float(score)) for place, score in zip(positions, scores, strict=True)]
    return dict([one for one in ranked if one[0] != without][:k])


def _warnings(collection: Collection, parts: Sequence[_Part]) -> Iterator[str]:
    """What was left out, or cannot be found."""
    asked = {query for part in parts for query in part.queries}
    lonely = sorted(
        {collection.query_domains.get(query, GENERAL) for query in collection.queries if query not in asked}
    )
    for name in lonely:
        yield f"{collection.name}: domain {name!r} has queries and no documents; it is left out"
    beyond = 0
    for part in parts:
        held = set(part.documents)
        wanted = (
            {name for name, grade in collection.qrels[query].items() if grade > 0} for query in part.queries
        )
        beyond += sum(len(names - held) for names in wanted)
    if beyond:
        yield (
            f"{collection.name}: {beyond} relevant documents are not among those ranked for their query "
            "(of another domain, or missing) and count as not found"
        )
