"""LanceDB's own vector index: lives in the table, for what exceeds memory or lies in a bucket.

It is part of a table version, as the rows are: a generation pins both together. How it is searched was
measured when it was built, and is kept in the table's configuration, of the same version.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from moe_retrieval.storage.engine import engine_faults
from moe_retrieval.storage.indexes.trial import Score, Trial
from moe_retrieval.storage.tables.rows import VECTOR
from moe_retrieval.storage.tables.view import TableView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.storage.indexes.trial import Search, Setting
    from moe_retrieval.storage.places.place import Place

LEAST_ROWS = 20_000
"""Tables with fewer rows are read whole for each query: that takes some 10 ms."""

METRIC = "dot"
KINDS = ("IVF_RQ", "IVF_SQ", "IVF_FLAT", "IVF_HNSW_SQ")
_NAME = "moeret_vectors"
_CONFIG = "moeret.vector_index"
_QUERIES = 50
_NPROBES = (4, 8, 16, 32, 64, 128, 256)
_FACTORS = (2, 4, 10)
_GROWTH = 2.0
"""Times its rows to which a table may grow before its lists are made anew."""


@dataclass(frozen=True, slots=True)
class LanceSetting:
    """How a table's own index is searched, and what it reached then."""

    kind: str
    rows: int
    parameters: Mapping[str, int]
    recall_at_10: float
    ms: float
    wanted: float


def ensure_lance_index(
    place: Place, table: str, *, recall: float, kind: str = KINDS[0]
) -> LanceSetting | None:
    """Make sure that the latest version of a table has a measured index of its own; None for a small table.

    Makes new versions of the table; used under the writer lease, before the version is published. Rows that
    came since are added to the index; it is made anew when the table has doubled.
    """
    dataset = place.dataset(table)
    rows = dataset.count_rows()
    if rows < LEAST_ROWS:
        return None
    known = setting_of(dataset)
    if known is None or known.kind != kind or rows > _GROWTH * known.rows or known.wanted < recall:
        create(dataset, kind=kind)
        built_for = rows
    elif unindexed(dataset):
        with engine_faults(f"refresh the vector index of table {table}"):
            dataset.optimize.optimize_indices(index_names=[_NAME])
        built_for = known.rows
    else:
        return known
    dataset = place.dataset(table)
    view = TableView(place, name=table, version=int(dataset.version))
    found = tune(view, recall=recall)
    setting = LanceSetting(
        kind, built_for, dict(found.setting), round(found.recall, 4), round(found.ms, 3), recall
    )
    with engine_faults(f"describe the vector index of table {table}"):
        dataset.update_config({_CONFIG: json.dumps(asdict(setting), sort_keys=True)})
    return setting


def create(dataset: Any, *, kind: str = KINDS[0]) -> None:
    """Build an index over all vectors of a dataset, replacing the one it has."""
    rows, dim = dataset.count_rows(), dataset.schema.field(VECTOR).type.list_size
    usable = kind if dim % 8 == 0 else "IVF_FLAT"  # bits of whole bytes only
    with engine_faults("build the vector index"):
        dataset.create_index(
            VECTOR, usable, name=_NAME, metric=METRIC, num_partitions=max(1, math.isqrt(rows)), replace=True
        )


def setting_of(dataset: Any) -> LanceSetting | None:
    """How the index of this version is searched; None for one without an index of ours."""
    if not any(index.name == _NAME for index in dataset.describe_indices()):
        return None
    try:
        return LanceSetting(**json.loads(dataset.config()[_CONFIG]))
    except (KeyError, ValueError, TypeError):
        return None


def tune(view: TableView, *, recall: float) -> Score:
    """The fastest way to search a view's own index that reaches the recall."""
    ladders: list[list[Setting]] = [
        [{"nprobes": probes, "refine_factor": factor} for probes in _NPROBES] for factor in _FACTORS
    ]
    return Trial.of(view, queries=_QUERIES).tune(lambda one: searching(view, one), ladders, recall=recall)


def searching(view: TableView, setting: Mapping[str, int]) -> Search:
    """A search of a view's own index."""
    from moe_retrieval.storage.indexes.lance_index import LanceIndex

    index = LanceIndex(view, parameters=setting)
    return lambda query, k: index.search(query, k=k)[0].keys


def unindexed(dataset: Any) -> int:
    """Rows of a dataset that its index does not hold."""
    held = sum(one.num_rows_indexed for one in dataset.describe_indices() if one.name == _NAME)
    return max(0, int(dataset.count_rows()) - int(held))
