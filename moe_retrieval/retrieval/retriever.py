"""Query in, ranked hits out: route, encode once per space, search, fuse, fetch."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import NothingFoundError, StoreCorruptError, UsageError
from moe_retrieval.filters import Filter, parse_filter
from moe_retrieval.retrieval.fusion import Ranked, Searched, fuse, search_depth
from moe_retrieval.retrieval.pinned import EncoderChoice, check_fingerprints, pinned_encoder, serves
from moe_retrieval.retrieval.snapshot import Snapshot
from moe_retrieval.storage.readers import Hold, hold_newest
from moe_retrieval.types import GENERAL, Hit, Mode, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.retrieval.indexing import Indexing
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.table import Found

    Vectors = dict[tuple[str, int], np.ndarray]
    """Query vectors, float32 (dim,), by space and by place of the text among the texts asked."""

MAX_K = 10_000


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits of one query, the route it took, and the generation it saw."""

    query: str
    hits: tuple[Hit, ...]
    routes: tuple[Route, ...]
    generation: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Ask:
    """One query, parsed: what the searches need."""

    text: str
    k: int
    mode: Mode
    where: Filter | None

    @property
    def depth(self) -> int:
        return search_depth(self.k)


class Retriever:
    """Answers queries from the newest generation of a store; each query pins one generation for its whole
    life.

    Thread-safe. `encoder`, when given, must be the one the store was written with; else the retriever loads
    it, or takes `loaded`, the one that has just written the store, where it would load the same.
    """

    def __init__(
        self,
        store: Store,
        *,
        encoder: Encoder | None = None,
        choice: EncoderChoice | None = None,
        loaded: Encoder | None = None,
        indexing: Indexing | None = None,
        notify: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self.store, self.choice, self.notify = store, choice or EncoderChoice(), notify
        self._given, self._loaded, self._indexing = encoder, loaded, indexing
        self._snapshot: Snapshot | None = None
        self._opening = threading.Lock()
        self._pool = _threads()

    def query(
        self,
        text: str,
        *,
        k: int = 10,
        mode: Mode | str = Mode.HYBRID,
        domains: Sequence[str] | None = None,
        where: Filter | str | None = None,
        mass: float = 0.9,
    ) -> Answer:
        """The best `k` chunks for `text`, best first.

        `domains` overrides the router, which else picks the fewest domains that hold `mass` of the
        probability.
        `where`: a filter over document metadata (`moe_retrieval.filters`).

        Raises:
            UsageError: the text is empty, or k is out of range.
            FilterError: the filter does not parse or names an unknown field.
            UnknownDomainError: a named domain is not in the store.
            NothingFoundError: the store holds no documents.
        """
        return self.query_many([text], k=k, mode=mode, domains=domains, where=where, mass=mass)[0]

    def query_many(
        self,
        texts: Sequence[str],
        *,
        k: int = 10,
        mode: Mode | str = Mode.HYBRID,
        domains: Sequence[str] | None = None,
        where: Filter | str | None = None,
        mass: float = 0.9,
    ) -> list[Answer]:
        """As `query`, for many texts on one generation; they are encoded in batches."""
        where = parse_filter(where) if isinstance(where, str) else where
        asks = [_Ask(_checked(text, k), k=k, mode=Mode(mode), where=where) for text in texts]
        snapshot = self.snapshot()
        general = None if domains else snapshot.vectors(texts)
        if general is None:
            routes = [snapshot.named(domains or ())] * len(asks)
        else:
            routes = [snapshot.route(vector, mass=mass) for vector in general]
        vectors = {} if Mode(mode) is Mode.TEXT else _encode(snapshot, texts, routes, general=general)
        return [self._answer(snapshot, ask, routes[at], vectors, at=at) for at, ask in enumerate(asks)]

    def _answer(
        self, snapshot: Snapshot, ask: _Ask, routes: tuple[Route, ...], vectors: Vectors, *, at: int
    ) -> Answer:
        jobs = [self._pool.submit(_search, snapshot, route, ask, vectors, at=at) for route in routes]
        ranked = fuse([job.result() for job in jobs], mode=ask.mode, k=ask.k)
        return Answer(ask.text, _fetch(snapshot, ranked), routes, snapshot.generation.number)

    def snapshot(self) -> Snapshot:
        """The newest generation, opened; the same object as long as nothing newer is published.

        While one thread opens what another process has just published, the others go on with what is open: at
        a million chunks that takes a second. What was published through this very store is always seen.
        """
        generation = self.store.catalog.latest()
        if generation is None or not any(entry.rows for entry in generation.domains.values()):
            raise NothingFoundError(f"{self.store.name} holds no documents", hint="moeret index PATH")
        held = self._snapshot
        if held is not None and held.generation.number >= generation.number:
            return held
        must_wait = held is None or held.generation.number < self.store.catalog.published
        if not self._opening.acquire(blocking=must_wait) and held is not None:
            return held
        try:
            held = self._snapshot
            if held is None or held.generation.number < generation.number:
                held = self._snapshot = self._opened(held, generation)
            return held
        finally:
            self._opening.release()

    def close(self) -> None:
        """End the search threads and let go of the open generation; the next query opens it again."""
        self._pool.shutdown()
        self._pool = _threads()
        self._snapshot = None

    def _opened(self, held: Snapshot | None, generation: Generation) -> Snapshot:
        """The newest generation, kept from `gc` for as long as a query uses the snapshot."""
        generation, hold = hold_newest(self.store.catalog) or (generation, Hold())
        encoder = self._encoder_for(held, generation)
        fresh = Snapshot(
            self.store,
            generation,
            encoder=encoder,
            notify=self.notify,
            hold=hold,
            indexing=self._indexing,
        )
        if held is not None:
            fresh.succeed(held)
        return fresh

    def _encoder_for(self, held: Snapshot | None, generation: Generation) -> Encoder:
        """The one given, or the one loaded where the new generation pins the same, else a new one."""
        if self._given is not None:
            check_fingerprints(self._given, generation)
            return self._given
        if held is not None and _pins(held.generation) == _pins(generation):
            return held.encoder
        if self._loaded is not None and serves(self._loaded, generation, self.choice):
            return self._loaded
        return pinned_encoder(self.store, generation, self.choice)


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=8, thread_name_prefix="moeret-search")


def _pins(generation: Generation) -> tuple[object, ...]:
    """What decides the encoder of a generation."""
    own = {name: entry.expert for name, entry in generation.domains.items() if entry.expert != GENERAL}
    return (dict(generation.model), own)


def _checked(text: str, k: int) -> str:
    if not text.strip():
        raise UsageError("the query is empty", hint='moeret query "a question or some words"')
    if not 1 <= k <= MAX_K:
        raise UsageError(f"k is {k}", hint=f"ask for 1 to {MAX_K} hits")
    return text


def _encode(
    snapshot: Snapshot,
    texts: Sequence[str],
    routes: Sequence[tuple[Route, ...]],
    *,
    general: np.ndarray | None,
) -> Vectors:
    """Vector (dim,) of every text in every space it is routed to; `general`, (n, dim), is used where it
    serves.
    """
    members: dict[str, str] = {}  # space -> one of its domains
    wanted: dict[str, set[int]] = {}
    for at, part in enumerate(routes):
        for route in part:
            space = snapshot.space(route.domain)
            members.setdefault(space, route.domain)
            wanted.setdefault(space, set()).add(at)
    vectors: Vectors = {}
    groups: dict[tuple[int, ...], list[str]] = {}  # texts -> spaces that want exactly these: one batch
    for space, domain in members.items():
        places = tuple(sorted(wanted[space]))
        if general is not None and snapshot.encoder.expert_of(domain) == GENERAL:
            vectors |= {(space, at): general[at] for at in places}
        else:
            groups.setdefault(places, []).append(space)
    for places, spaces in groups.items():
        found = snapshot.encoder.encode_query_across(
            [texts[at] for at in places], domains=[members[space] for space in spaces]
        )
        for space, encoded in zip(spaces, found, strict=True):
            vectors |= {(space, at): vector for at, vector in zip(places, encoded, strict=True)}
    return vectors


def _search(snapshot: Snapshot, route: Route, ask: _Ask, vectors: Vectors, *, at: int) -> Searched:
    """Vector and full-text search of one domain."""
    view, space = snapshot.view(route.domain), snapshot.space(route.domain)
    known = snapshot.fields() if ask.where else ()
    vector: Found | None = None
    text: Found | None = None
    if ask.mode is not Mode.TEXT:
        allowed = None if ask.where is None else view.matching(ask.where, known=known)
        vector = snapshot.index(route.domain).search(vectors[space, at][None], k=ask.depth, allowed=allowed)[
            0
        ]
    if ask.mode is not Mode.VECTOR:
        try:
            text = view.search_text(ask.text, k=ask.depth, where=ask.where, known=known)
        except StoreCorruptError as error:
            if vector is None:
                raise
            cure = "moeret doctor --repair"
            snapshot.notify(f"domain {route.domain} is searched by vector only: {error.message}; {cure}")
    return Searched(route.domain, space=space, probability=route.probability, vector=vector, text=text)


def _fetch(snapshot: Snapshot, ranked: Sequence[Ranked]) -> tuple[Hit, ...]:
    """Texts and metadata of the ranked chunks: one read per domain."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for domain in {one.domain for one in ranked}:
        keys = np.array([one.key for one in ranked if one.domain == domain], dtype=np.int64)
        offsets = snapshot.index(domain).offsets(keys)
        table = snapshot.view(domain).fetch(keys, offsets=offsets)
        rows |= {(domain, int(key)): row for key, row in zip(keys, table.to_pylist(), strict=True)}
    return tuple(_hit(one, rows[one.domain, one.key], rank=rank) for rank, one in enumerate(ranked, start=1))


def _hit(ranked: Ranked, row: dict[str, Any], *, rank: int) -> Hit:
    return Hit(
        rank=rank,
        score=ranked.score,
        domain=ranked.domain,
        doc_id=row["doc_id"],
        chunk_id=row["id"],
        title=row["title"],
        text=row["content"][row["lead"] :],
        source=row["source"],
        start=row["start"],
        end=row["end"],
        section=row["section"],
        page=row["page"],
        metadata=json.loads(row["meta"]),
        why=ranked.why,
    )
