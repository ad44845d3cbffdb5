"""Which experts a config.json names, and how texts reach them; read and checked without any library."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from moe_retrieval.model.fields import demand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROUTINGS = ("index", "domain_token", "token_types", "sentence", "token")
LEARNED = ("sentence", "token")


@dataclass(frozen=True, slots=True)
class Roster:
    """The fields of `ExpertFields` in a model folder; a dense model has one expert, `general`."""

    experts: tuple[str, ...] = ("general",)
    domains: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    moe_layers: tuple[int, ...] = ()
    routing: str = "index"
    top_k: int = 1
    gated: tuple[str, ...] = ()
    low_rank: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    domain_tokens: tuple[str, ...] = ()
    vocabulary: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def learned(self) -> bool:
        """Whether a gate chooses the experts."""
        return self.routing in LEARNED

    def only(self, names: Sequence[str]) -> dict[str, Any]:
        """Arguments of a configuration that has these experts alone."""
        return {
            "experts": list(names),
            "domains": {domain: expert for domain, expert in self.domains.items() if expert in names},
            "routing": self.routing,
            "top_k": self.top_k,
            "gated": [name for name in self.gated if name in names],
            "domain_tokens": [name for name in self.domain_tokens if name in names],
            "vocabulary": {name: list(words) for name, words in self.vocabulary.items() if name in names},
        }


def read_roster(raw: Mapping[str, Any], *, layers: int) -> Roster:
    """The experts of a config.json; a dense model could have them in every layer.

    Raises:
        FieldError: a field is impossible.
    """
    experts = raw.get("experts") or ["general"]
    chosen = raw.get("moe_layers")
    where = list(range(layers)) if chosen is None else chosen
    sound = isinstance(experts, list) and experts[0] == "general" and _different(experts, str)
    demand("experts", experts, sound and all(experts))
    demand(
        "moe_layers",
        where,
        isinstance(where, list) and _different(where, int) and {*where} <= {*range(layers)},
    )
    routing, top_k = raw.get("routing", "index"), raw.get("top_k", 1)
    demand("routing", routing, routing in ROUTINGS)
    demand("top_k", top_k, type(top_k) is int and 1 <= top_k <= len(experts))
    domains = _by_name(raw, "domains", kind=str)
    demand("domains", dict(domains), {*domains.values()} <= {*experts})
    low_rank, vocabulary = _by_name(raw, "low_rank", kind=int), _by_name(raw, "vocabulary", kind=list)
    for name, keys in (("low_rank", low_rank), ("vocabulary", vocabulary)):
        demand(name, dict(keys), {*keys} <= {*experts})
    demand("low_rank", dict(low_rank), all(rank > 0 for rank in low_rank.values()))
    demand("vocabulary", dict(vocabulary), all(_different(words, str) for words in vocabulary.values()))
    return Roster(
        tuple(experts),
        domains,
        tuple(where),
        routing,
        top_k,
        _names(raw, "gated", experts),
        low_rank,
        _names(raw, "domain_tokens", experts),
        MappingProxyType({name: tuple(words) for name, words in vocabulary.items()}),
    )


def _different(values: list[Any], kind: type) -> bool:
    return all(type(value) is kind for value in values) and len({*values}) == len(values)


def _by_name(raw: Mapping[str, Any], name: str, *, kind: type) -> Mapping[str, Any]:
    value = raw.get(name) or {}
    demand(name, value, isinstance(value, dict) and all(type(part) is kind for part in value.values()))
    return MappingProxyType(dict(value))


def _names(raw: Mapping[str, Any], name: str, experts: list[str]) -> tuple[str, ...]:
    value = raw.get(name) or []
    demand(name, value, isinstance(value, list) and _different(value, str) and {*value} <= {*experts})
    return tuple(value)
