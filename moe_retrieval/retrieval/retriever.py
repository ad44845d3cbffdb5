"""Query in, ranked hits out: route, encode once per space, search, fuse, fetch."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_retrieval.errors import FilterError, NothingFoundError, UsageError, did_you_mean, refuse_bare
from moe_retrieval.filters import Filter, parse_filter
from moe_retrieval.retrieval.answer import Answer as Answer
from moe_retrieval.retrieval.encoding import encode_queries
from moe_retrieval.retrieval.fetching import fetch_hits
from moe_retrieval.retrieval.pinned import EncoderChoice, check_fingerprints, pinned_encoder, serves
from moe_retrieval.retrieval.searching import Ask, search_domain
from moe_retrieval.retrieval.snapshot import Snapshot
from moe_retrieval.retrieval.stages import Stage, Stages, shared, slowest
from moe_retrieval.storage.maintenance.readers import Hold, hold_newest
from moe_retrieval.types import GENERAL, Fusing, Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.retrieval.encoding import Vectors
    from moe_retrieval.retrieval.fusion import Searched
    from moe_retrieval.retrieval.indexing import Indexing
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store
    from moe_retrieval.types import Route

MAX_K = 10_000


@dataclass(frozen=True, slots=True)
class _Ready:
    """A batch of queries, routed and encoded. `seconds`: what each took of these stages."""

    snapshot: Snapshot
    asks: Sequence[Ask]
    routes: Sequence[tuple[Route, ...]]
    vectors: Vectors
    seconds: dict[str, float]


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
        mass: float | None = None,
        fusing: Fusing | None = None,
    ) -> Answer:
        """The best `k` chunks for `text`, best first.

        `domains` overrides the router, which else picks the fewest domains that hold `mass` of the
        probability.
        `where`: a filter over document metadata (`moe_retrieval.filters`).
        `fusing`: how lists are joined; None: as the store was tuned.

        Raises:
            UsageError: the text is empty, k or a weight is out of range, there is no such mode, or a way of
                fusing needs a calibration that a domain does not have.
            FilterError: the filter does not parse or names an unknown field.
            UnknownDomainError: a named domain is not in the store.
            NothingFoundError: the store holds no documents.
        """
        return self.query_many(
            [text], k=k, mode=mode, domains=domains, where=where, mass=mass, fusing=fusing
        )[0]

    def query_many(
        self,
        texts: Sequence[str],
        *,
        k: int = 10,
        mode: Mode | str = Mode.HYBRID,
        domains: Sequence[str] | None = None,
        where: Filter | str | None = None,
        mass: float | None = None,
        snapshot: Snapshot | None = None,
        fusing: Fusing | None = None,
    ) -> list[Answer]:
        """As `query`, for many texts on one generation (the newest, or that of `snapshot`); they are encoded
        in batches.
        """
        asks = _asks(texts, k=k, mode=mode, where=where, fusing=fusing)
        ready = self._prepared(asks, domains=domains, mass=mass, snapshot=snapshot)
        return [self._answer(ready, at) for at in range(len(asks))]

    def search_many(
        self,
        texts: Sequence[str],
        *,
        k: int = 10,
        mode: Mode | str = Mode.HYBRID,
        domains: Sequence[str] | None = None,
        where: Filter | str | None = None,
        mass: float | None = None,
        snapshot: Snapshot | None = None,
    ) -> list[tuple[Searched, ...]]:
        """What the searches of `query_many` find before it is fused: per text one entry per routed domain.

        `fusion.fuse` makes an answer's places of it; many ways of fusing can be tried on one search.
        """
        asks = _asks(texts, k=k, mode=mode, where=where, fusing=None)
        ready = self._prepared(asks, domains=domains, mass=mass, snapshot=snapshot)
        return [self._search(ready, at) for at in range(len(asks))]

    def _prepared(
        self,
        asks: Sequence[Ask],
        *,
        domains: Sequence[str] | None,
        mass: float | None,
        snapshot: Snapshot | None,
    ) -> _Ready:
        """Route and encode a batch."""
        refuse_bare(domains, "the list of domains")
        snapshot, stages = snapshot or self.snapshot(), Stages()
        texts = [ask.text for ask in asks]
        general = None
        with stages.of(Stage.ROUTE):
            if domains:
                routes = [snapshot.named(domains)] * len(asks)
            else:
                general = snapshot.vectors(texts)
                routes = [
                    snapshot.route(text, vector, mass=mass)
                    for text, vector in zip(texts, general, strict=True)
                ]
        vectors: Vectors = {}
        if asks and asks[0].mode is not Mode.TEXT:
            with stages.of(Stage.ENCODE):
                vectors = encode_queries(snapshot, texts, routes, general=general)
        return _Ready(snapshot, asks, routes, vectors, shared(stages.seconds, by=len(asks)))

    def _search(self, ready: _Ready, at: int) -> tuple[Searched, ...]:
        """The searches of one text, side by side."""
        ask, snapshot = ready.asks[at], ready.snapshot
        jobs = [
            self._pool.submit(search_domain, snapshot, route, ask, ready.vectors, at=at)
            for route in ready.routes[at]
        ]
        return tuple(job.result() for job in jobs)

    def _answer(self, ready: _Ready, at: int) -> Answer:
        snapshot, ask, stages = ready.snapshot, ready.asks[at], Stages()
        searched = self._search(ready, at)
        with stages.of(Stage.FUSE):
            ranked, way = snapshot.fused(searched, mode=ask.mode, k=ask.k, fusing=ask.fusing)
        with stages.of(Stage.FETCH):
            hits = fetch_hits(snapshot, ranked)
        timings = ready.seconds | slowest(one.seconds for one in searched) | stages.seconds
        number = snapshot.generation.number
        return Answer(ask.text, hits, ready.routes[at], number, timings=timings, fused=way)

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
        """Let go of the search threads and the open generation; the next query opens it again.

        Queries of other threads end as they began: the old threads end with the last of them.
        """
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


def _asks(
    texts: Sequence[str],
    *,
    k: int,
    mode: Mode | str,
    where: Filter | str | None,
    fusing: Fusing | None,
) -> list[Ask]:
    refuse_bare(texts, "what is asked")
    where = _filter(where)
    mode, fusing = _mode(mode), _weighted(fusing or Fusing())
    return [Ask(_checked(text, k), k=k, mode=mode, where=where, fusing=fusing) for text in texts]


def _filter(where: object) -> Filter | None:
    if isinstance(where, str):
        return parse_filter(where)
    if where is None or isinstance(where, Filter):
        return where
    hint = "give text, or an object as Field('year') >= 2015 is one"
    raise FilterError(f"a filter cannot be of type {type(where).__name__}", hint=hint)


def _mode(mode: Mode | str) -> Mode:
    known = [one.value for one in Mode]
    if mode not in known:
        raise UsageError(f"there is no mode {mode!r}", hint=did_you_mean(mode, known))
    return Mode(mode)


def _weighted(fusing: Fusing) -> Fusing:
    if fusing.weight is not None and not 0 <= fusing.weight <= 1:
        raise UsageError(f"the weight of the vector search is {fusing.weight}", hint="give 0 to 1")
    return fusing


def _checked(text: object, k: int) -> str:
    if not isinstance(text, str):
        raise UsageError(f"a query is text, and cannot be of type {type(text).__name__}", hint="give a str")
    if not text.strip():
        raise UsageError("the query is empty", hint='moeret query "a question or some words"')
    if not 1 <= k <= MAX_K:
        raise UsageError(f"k is {k}", hint=f"ask for 1 to {MAX_K} hits")
    return text
