"""Which domains a document goes to that came without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.hashing import shared_hash
from moe_retrieval.router_choice import Kind
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from moe_retrieval.corpus.changes import ChangeLog
    from moe_retrieval.corpus.chunking import Chunker
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.router import Router
    from moe_retrieval.types import Document

AT_MOST = 3
"""Domains that a document in doubt is stored in: each of them costs its vectors, and time in every query."""


@dataclass(frozen=True, slots=True)
class Placing:
    """The router of the live generation (None: there is nothing to route by) asked about documents.

    With `several`, a document that the router is in doubt about goes to every domain of its conformal set,
    the likeliest `AT_MOST`.
    """

    router: Router | None
    encoder: Encoder
    chunker: Chunker
    several: bool = False

    def homes(
        self, document: Document, *, key: int, digest: int, known: ChangeLog
    ) -> tuple[tuple[str, ...], bool]:
        """The domains of a document whose content hash is `digest`, and whether the router was asked.

        Those that hold it stay its domains, whatever the router thinks by now. But where the copies of one in
        several domains are not alike and whole, it was changed, or a killed run did not reach all of them:
        then the router is asked again.
        """
        homes = known.homes(key)
        stored = shared_hash(digest, len(homes))
        whole = all(known.holds(key, stored, home) for home in homes)
        if homes and (whole or not (self.several and known.is_shared(key))):
            return homes, False
        return self._routed(document), self.router is not None

    def _routed(self, document: Document) -> tuple[str, ...]:
        """The domains for a document by its beginning, likeliest first; `general` for one of no known domain,
        and while there is nothing to route by.
        """
        if self.router is None:
            return (GENERAL,)
        head = self.chunker.chunk(document)[0].content
        vector = self.encoder.encode_document([head], domain=GENERAL)[0]
        choice = self.router.choose(vector, at_most=AT_MOST if self.several else 1, of=Kind.DOCUMENT)
        return (GENERAL,) if choice.abstained else tuple(route.domain for route in choice.routes)
