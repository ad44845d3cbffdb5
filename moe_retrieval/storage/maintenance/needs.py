"""What a generation cannot do without: tables at versions, experts, a router, index contents, checksums."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from moe_retrieval.storage.catalog import Generation


@dataclass(frozen=True, slots=True)
class Needs:
    """What one or several generations need. `versions`: by table; `contents`: digests of their rows."""

    versions: Mapping[str, frozenset[int]] = field(default_factory=dict)
    experts: frozenset[str] = frozenset()
    routers: frozenset[str] = frozenset()
    contents: frozenset[str] = frozenset()
    sums: frozenset[str] = frozenset()

    @classmethod
    def of(cls, generation: Generation) -> Needs:
        """What one generation needs."""
        entries = generation.domains.values()
        return cls(
            versions=_joined((one.table, frozenset({one.version})) for one in entries),
            experts=frozenset(one.expert for one in entries),
            routers=frozenset({generation.router} - {""}),
            contents=frozenset(one.digest for one in entries),
            sums=frozenset({one.sums for one in entries} - {""}),
        )

    def __or__(self, other: Needs) -> Needs:
        """What both need."""
        return Needs(
            versions=_joined([*self.versions.items(), *other.versions.items()]),
            experts=self.experts | other.experts,
            routers=self.routers | other.routers,
            contents=self.contents | other.contents,
            sums=self.sums | other.sums,
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "versions": {table: sorted(numbers) for table, numbers in sorted(self.versions.items())},
            "experts": sorted(self.experts),
            "routers": sorted(self.routers),
            "contents": sorted(self.contents),
            "sums": sorted(self.sums),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Needs:
        """What `to_dict` gave; raises KeyError, TypeError or ValueError where it did not."""
        return cls(
            versions={str(table): frozenset(map(int, some)) for table, some in values["versions"].items()},
            experts=frozenset(map(str, values["experts"])),
            routers=frozenset(map(str, values["routers"])),
            contents=frozenset(map(str, values["contents"])),
            sums=frozenset(map(str, values["sums"])),
        )


def _joined(parts: Iterable[tuple[str, frozenset[int]]]) -> dict[str, frozenset[int]]:
    found: dict[str, frozenset[int]] = defaultdict(frozenset)
    for table, numbers in parts:
        found[table] |= numbers
    return dict(found)
