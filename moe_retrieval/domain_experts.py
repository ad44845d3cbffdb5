"""Which expert serves a domain, where its weights are, and what of a vector it decides."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from moe_retrieval.errors import UsageError
from moe_retrieval.model.packs import check_fit, pack_sha, select_expert
from moe_retrieval.model.weights import join_digests, read_tensors
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from moe_retrieval.model.packs import Pack
    from moe_retrieval.model.source import ModelSource
    from moe_retrieval.model.weights import Digests


def nearest_domain(vectors: NDArray[np.float32], by_domain: Mapping[str, NDArray[np.float32]]) -> str:
    """The domain whose texts lie nearest: a good expert for a new domain's to start from.

    `vectors`: texts of the new domain, (n, dim); `by_domain`: texts of those that have experts; all of them
    under the general expert. Compared are the means, by cosine; ties go by name.

    Raises:
        UsageError: there is nothing to compare.
    """
    if not len(vectors) or not by_domain or not all(len(own) for own in by_domain.values()):
        raise UsageError("no texts to find the nearest domain by", hint="give texts of every domain")
    wanted = vectors.mean(axis=0)
    means = {domain: own.mean(axis=0) for domain, own in by_domain.items()}
    scores = {domain: float(mean @ wanted / np.linalg.norm(mean)) for domain, mean in means.items()}
    return min(scores, key=lambda domain: (-scores[domain], domain))


class DomainExperts:
    """The experts of a model folder, and exported ones that come before those; an expert is named by the
    sha256 of its weights, or "general".
    """

    def __init__(self, source: ModelSource, packs: Mapping[str, Pack]) -> None:
        if packs and source.roster.learned:
            raise UsageError(
                f"{source.name} chooses its experts by a learned gate; experts of domains cannot be added",
                hint="give a model whose routing is index",
            )
        self.source, self._packs = source, dict(packs)
        for pack in self._packs.values():
            check_fit(pack, self.digests, name=source.name)

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """Domains that have an expert of their own."""
        return tuple(sorted({*self._packs, *self._inside}))

    def name(self, domain: str) -> str:
        """The domain's expert."""
        if domain in self._packs:
            return self._packs[domain].sha
        number = self._inside.get(domain)
        return GENERAL if number is None else self._inside_shas[number]

    @cached_property
    def places(self) -> dict[str, Pack | int]:
        """Where the weights of each expert beside general are: a pack, or a number in the model folder."""
        inside = {self.name(domain): number for domain, number in self._inside.items()}
        return {**inside, **{pack.sha: pack for pack in self._packs.values()}}

    @cached_property
    def words(self) -> dict[str, Sequence[str]]:
        """Words that are one token for an expert alone."""
        said, names = self.source.roster.vocabulary, self.source.experts
        found = {
            expert: said.get(names[place], ()) if isinstance(place, int) else place.words
            for expert, place in self.places.items()
        }
        return {expert: words for expert, words in found.items() if words}

    # --- digests ------------------------------------------------------------------------------------------

    @cached_property
    def digests(self) -> Digests:
        """Digests of the model folder's weights."""
        return self.source.digests()

    def feed_forward(self, domain: str) -> str:
        """Digest of the feed-forwards that compute the domain's texts: under a learned gate, of all."""
        if self.source.roster.learned:
            return self.digests.all_experts()
        return self.digests.expert(self._own(domain)[0])

    def token_row(self, domain: str) -> str:
        """Digest of the domain token's embedding, or empty."""
        return self.digests.row("token", self._own(domain)[1])

    def vocabulary(self, domain: str) -> str:
        """Digest of the words that are one token for this domain alone, and of their embeddings, or empty."""
        words = self.words.get(self.name(domain), ())
        return join_digests([*words, self.digests.row("words", self._own(domain)[1])]) if words else ""

    def shared(self) -> str:
        """Digest of all that an expert's graph holds besides the expert."""
        config = json.dumps(dict(self.source.config), sort_keys=True)
        rows = sorted(self.digests.rows_of(0).values())
        return join_digests([self.digests.trunk, self.digests.expert(), *rows, config])

    def _own(self, domain: str) -> tuple[Mapping[int, str], Mapping[str, str]]:
        """Digests of what is the domain's own: feed-forwards by layer, embeddings by part."""
        if domain in self._packs:
            return self._pack_digests[self._packs[domain].sha]
        number = self._inside.get(domain, 0)
        return self.digests.feed_forward[number], self.digests.rows_of(number)

    @cached_property
    def _pack_digests(self) -> dict[str, tuple[Mapping[int, str], Mapping[str, str]]]:
        return {pack.sha: pack.digests(self.digests) for pack in self._packs.values()}

    @cached_property
    def _inside(self) -> dict[str, int]:
        """Domain -> number of its expert in the model folder; none where a gate mixes them."""
        if self.source.roster.learned:
            return {}
        numbers = {domain: self.source.experts.index(name) for domain, name in self.source.domains.items()}
        return {domain: number for domain, number in numbers.items() if number and domain not in self._packs}

    @cached_property
    def _inside_shas(self) -> dict[int, str]:
        tensors, said = read_tensors(self.source.weights), self.source.roster.vocabulary
        return {
            number: pack_sha(select_expert(tensors, number), words=said.get(self.source.experts[number], ()))
            for number in set(self._inside.values())
        }
