"""Whether tidying a table is worth what it costs: to join fragments is to copy all their rows.

Fragments are joined when more than a few are of one size, and only with their like (as log-structured merge
trees do; O'Neil et al., Acta Informatica 1996). So a row is copied a few times in its life, however often a
table of a hundred thousand rows is given one more, and the number of fragments stays bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moe_retrieval.storage.tables.rows import CONTENT

if TYPE_CHECKING:
    from collections.abc import Sequence

FRAGMENT_ROWS = 131_072
"""Fragments of this size are left alone."""

_SIZES = (1_024, 16_384, FRAGMENT_ROWS)
FEW = 8
"""Fragments of each size that are left alone."""

_DELETED = 0.1
"""Share of a fragment's rows from which on Lance writes it anew without the deleted ones."""

_UNINDEXED = 0.01
"""Share of a table's rows that may be missing in the text index: they are searched by reading them."""


def joined_below(dataset: Any) -> int:
    """Fragments with fewer rows than this are to be joined; 0: it is not worth it yet."""
    fragments = [(one.physical_rows, one.num_deletions) for one in dataset.get_fragments()]
    if size := _crowded([rows for rows, _ in fragments]):
        return size
    return _SIZES[0] if any(deleted > _DELETED * rows for rows, deleted in fragments) else 0


def _crowded(rows: Sequence[int]) -> int:
    """The least size of which there are too many (0: none), raised where that takes in no other fragment."""
    below = [sum(one < size for one in rows) for size in _SIZES]
    of_size = [count - before for count, before in zip(below, [0, *below], strict=False)]
    crowded = next((at for at, count in enumerate(of_size) if count > FEW), None)
    if crowded is None:
        return 0
    return max(size for size, count in zip(_SIZES, below, strict=True) if count == below[crowded])


def text_index_lags(dataset: Any) -> bool:
    """Whether so many rows are missing in the text index that it is worth bringing it up to date."""
    names = [index.name for index in dataset.describe_indices() if CONTENT in index.field_names]
    missing = sum(dataset.stats.index_stats(name)["num_unindexed_rows"] for name in names)
    return bool(missing > _UNINDEXED * dataset.count_rows())
