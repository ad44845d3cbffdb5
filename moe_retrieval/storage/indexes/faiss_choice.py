"""The kinds of FAISS index: which suit a table by its rows, the memory allowed and the recall wanted.

Memory is what a search walks through; vectors that only refine its best few are read from the mapped file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moe_retrieval.storage.engine import faiss

if TYPE_CHECKING:
    from collections.abc import Mapping

Setting = dict[str, int]
"""How hard an index looks: `nprobe` of `nlist`, `efSearch`, `k_factor`; nothing for one that reads all."""

FLAT_ROWS = 20_000
GRAPH_ROWS = 200_000
"""From here on a graph takes minutes to build: it is tried last."""

_LISTS_PER_ROOT = 4
_EFFORTS = (16, 32, 64, 96, 128, 192, 256, 384, 512)
_PROBES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512)
_FACTORS = (4, 8, 16, 32)
_LINK_BYTES = 2 * 32 * 4 + 16
"""Of a row of HNSW32: 64 links on the lowest level, and its share of the others."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to build an index, by its FAISS factory string."""

    factory: str

    @property
    def family(self) -> str:
        """The factory string without the number of lists."""
        head, comma, rest = self.factory.partition(",")
        return ("IVF" if head.startswith("IVF") else head) + comma + rest

    @property
    def lists(self) -> int:
        head = self.factory.partition(",")[0]
        return int(head.removeprefix("IVF")) if head.startswith("IVF") else 0

    @property
    def graph(self) -> bool:
        return self.factory.startswith("HNSW")

    @property
    def refined(self) -> bool:
        return "Refine(" in self.factory

    @property
    def codec(self) -> str:
        """What limits its precision, as a factory string; empty for whole vectors."""
        last = self.factory.rpartition(",")[2]
        if self.refined:
            return last.removeprefix("Refine(").removesuffix(")")
        return last if last.startswith("SQ") else ""

    @property
    def removable(self) -> bool:
        """Whether rows can be taken out of it again."""
        return not self.graph and not self.refined

    def memory(self, rows: int, dim: int) -> int:
        """Bytes that its searches walk through."""
        if self.refined:
            row = dim // 8 + 16
        elif self.codec:
            row = dim * (2 if self.codec == "SQfp16" else 1)
        else:
            row = 4 * dim
        row += _LINK_BYTES if self.graph else 8 if self.lists else 0
        return rows * row + self.lists * dim * 4

    def size(self, rows: int, dim: int) -> int:
        """Bytes of its file, about."""
        refining = {"SQ8": dim, "SQfp16": 2 * dim}[self.codec] if self.refined else 0
        return self.memory(rows, dim) + rows * refining

    def ladders(self) -> list[list[Setting]]:
        """Settings to try, each list from the least effort to the greatest."""
        if self.graph:
            return [[{"efSearch": effort} for effort in _EFFORTS]]
        if not self.lists:
            return [[{}]]
        probes = sorted({min(self.lists, probe) for probe in _PROBES})
        plain: list[Setting] = [{"nlist": self.lists, "nprobe": probe} for probe in probes]
        if not self.refined:
            return [plain]
        return [[{**one, "k_factor": factor} for one in plain] for factor in _FACTORS]

    def strained(self, setting: Mapping[str, int]) -> bool:
        """Whether the setting looks at so much that another kind may be faster."""
        return self.lists > 0 and 16 * setting["nprobe"] > self.lists


def candidates(rows: int, *, dim: int, memory: int = 0) -> tuple[Kind, ...]:
    """Kinds for so many rows within `memory` bytes (0: any), the likeliest first; empty if none fits.

    Measured on clustered vectors of 384 dimensions: inverted lists of 8-bit codes build five times faster
    than a graph and answer as fast; bits with refinement walk through a sixth of the bytes.
    """
    ivf = [
        f"IVF{lists_for(rows)},{rest}"
        for rest in ("SQ8", "RaBitQ,Refine(SQ8)", "RaBitQ,Refine(SQfp16)", "Flat")
    ]
    graphs = ["HNSW32,SQ8", "HNSW32"]
    if rows < FLAT_ROWS:
        names = ["Flat", "SQ8", *ivf[1:3]]
    elif rows < GRAPH_ROWS:
        names = [ivf[0], *graphs, ivf[3], *ivf[1:3]]
    else:
        names = [*ivf, *graphs]
    kinds = [Kind(name) for name in names]
    return tuple(kind for kind in kinds if not memory or kind.memory(rows, dim) <= memory)


def lists_for(rows: int) -> int:
    """Inverted lists for so many rows: a power of two near four times their root."""
    return int(2 ** round(math.log2(_LISTS_PER_ROOT * math.sqrt(max(rows, 1)))))


def search_parameters(setting: Mapping[str, int], selector: Any = None) -> Any:
    """The FAISS search parameters of a setting; `selector` chooses positions, and must be kept alive."""
    chosen = {} if selector is None else {"sel": selector}
    if "efSearch" in setting:
        return faiss().SearchParametersHNSW(efSearch=setting["efSearch"], **chosen)
    if "k_factor" in setting:
        base = faiss().IVFRaBitQSearchParameters(nprobe=setting["nprobe"], **chosen)
        return faiss().IndexRefineSearchParameters(k_factor=setting["k_factor"], base_index_params=base)
    if "nprobe" in setting:
        return faiss().SearchParametersIVF(nprobe=setting["nprobe"], **chosen)
    return faiss().SearchParameters(**chosen)
