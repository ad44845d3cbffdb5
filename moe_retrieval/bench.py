"""Compare the ways to search the vectors of a store's domains. Nothing in the store changes."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import UnknownDomainError, UsageError
from moe_retrieval.storage.index import index_info
from moe_retrieval.storage.indexes.contest import Contest, Figures
from moe_retrieval.storage.indexes.protocol import RECALL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_retrieval.storage.store import Store

K, QUERIES = 10, 200


@dataclass(frozen=True, slots=True)
class Bench:
    """What one kind of index of one domain reached. `in_use`: it is the one that answers queries now."""

    domain: str
    rows: int
    k: int
    figures: Figures
    in_use: bool

    def to_dict(self) -> dict[str, Any]:
        figures = asdict(self.figures)
        return {"domain": self.domain, "rows": self.rows, "k": self.k, "in_use": self.in_use, **figures}


def compare(
    store: Store,
    *,
    domains: Sequence[str] = (),
    k: int = K,
    queries: int = QUERIES,
    recall: float = RECALL,
) -> Iterator[Bench]:
    """Every kind of index of every domain (or of `domains`), built in a temporary folder and measured there.

    Stored vectors are the queries; each kind looks as hard as it must for the recall@10 wanted. The folder
    needs room for a few copies of the vectors.

    Raises:
        UnknownDomainError: a domain is not in the store.
        UsageError: there is nothing to search for, or the store is empty.
    """
    live = store.catalog.latest()
    if live is None or not any(entry.rows for entry in live.domains.values()):
        raise UsageError("the store holds no vectors", hint="moeret index PATH")
    if k < 1 or queries < 1:
        raise UsageError("there is nothing to measure without queries and hits", hint="--queries 200 --k 10")
    for domain in domains:
        if domain not in live.domains:
            raise UnknownDomainError(domain, live.domains)
    for domain in domains or sorted(live.domains):
        entry = live.domains[domain]
        if not entry.rows:
            continue
        used = index_info(store.indexes_dir, entry)
        with tempfile.TemporaryDirectory(prefix="moeret-bench-") as folder:
            contest = Contest.of(
                store.view(entry), entry=entry, folder=Path(folder), k=k, queries=queries, recall=recall
            )
            for figures in contest.figures():
                in_use = used is not None and (used.engine, used.factory) == (figures.engine, figures.kind)
                yield Bench(domain, entry.rows, k, figures, in_use)
