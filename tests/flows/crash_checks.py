"""What must hold of a store after a crash, read off whole tables, never off an index."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from moe_retrieval import Store
from moe_retrieval.storage.catalog import DomainEntry, Generation
from moe_retrieval.storage.tables.rows import to_numpy
from tests.flows.crash_corpus import Contents, State, text_of
from tests.flows.crash_experts import Models

COLUMNS = ("id", "doc_id", "doc_hash", "parts", "ordinal", "start", "end", "content", "n_version", "vector")
CLOSE = 1e-4


@dataclass
class Seen:
    """What one generation holds."""

    contents: dict[str, State]
    experts: dict[str, str]
    rows: int


@dataclass
class Promise:
    """What a generation may hold, and what it must.

    `now`: the state of the last generation that was read. `pending`: targets of runs that were killed and not
    gone on with; what they wrote may still come out. `target`: that of the run under way, by document, where
    None is a deletion.
    """

    now: dict[str, State] = field(default_factory=dict)
    pending: list[dict[str, State | None]] = field(default_factory=list)
    target: dict[str, State | None] = field(default_factory=dict)

    def check(self, found: Contents, *, acknowledged: Iterable[str]) -> None:
        for name in self.now.keys() | found.keys() | self.target.keys():
            allowed = {self.now.get(name)} | {one[name] for one in self.pending if name in one}
            if name in self.target:
                allowed.add(self.target[name])
            assert found.get(name) in allowed, f"{name} is {found.get(name)}, not one of {allowed}"
        for name in acknowledged:
            wanted = self.target[name]
            assert found.get(name) == wanted, f"acknowledged {name} = {wanted} is {found.get(name)}"


class Vectors:
    """The vectors that texts must have, by expert."""

    def __init__(self, models: Models) -> None:
        self._encoder = cache(models.encoder)
        self._known: dict[tuple[str, str], dict[str, np.ndarray]] = defaultdict(dict)

    def of(self, texts: list[str], *, domain: str, expert: str) -> np.ndarray:
        """Of document texts, float32 (n, dim)."""
        known = self._known[domain, expert]
        if new := sorted(set(texts) - known.keys()):
            found = self._encoder(domain, expert).encode_document(new, domain=domain)
            known.update(zip(new, found, strict=True))
        return np.stack([known[text] for text in texts])

    def of_query(self, text: str, *, domain: str, expert: str) -> np.ndarray:
        known = self._known[domain, f"query {expert}"]
        if text not in known:
            known[text] = self._encoder(domain, expert).encode_query([text], domain=domain)[0]
        return known[text]


def read(store: Store, generation: Generation, vectors: Vectors) -> Seen:
    """Read every row of a generation, and check that it is sound in itself."""
    contents: dict[str, State] = {}
    rows = 0
    for domain, entry in generation.domains.items():
        table = _table(store, entry)
        rows += table.num_rows
        _check_rows(table, entry, domain=domain, vectors=vectors)
        for name, version in _documents(table, domain=domain).items():
            assert name not in contents, f"{name} is in {domain} and in {contents[name][0]}"
            contents[name] = (domain, version)
    return Seen(contents, {name: entry.expert for name, entry in generation.domains.items()}, rows)


def _table(store: Store, entry: DomainEntry) -> pa.Table:
    batches = list(store.view(entry).batches(COLUMNS))
    return pa.Table.from_batches(batches) if batches else pa.table({name: [] for name in COLUMNS})


def _check_rows(table: pa.Table, entry: DomainEntry, *, domain: str, vectors: Vectors) -> None:
    ids = table["id"].to_pylist()
    assert len(ids) == entry.rows, f"{entry.table} has {len(ids)} rows, the catalog says {entry.rows}"
    twins = [name for name, count in Counter(ids).items() if count > 1]
    assert not twins, f"{entry.table} holds twice: {twins}"
    if not ids:
        return
    expected = vectors.of(table["content"].to_pylist(), domain=domain, expert=entry.expert)
    worst = np.abs(to_numpy(table["vector"]) - expected).max()
    assert worst < CLOSE, f"{entry.table} holds a vector that its expert {entry.expert[:8]} does not give"


def _documents(table: pa.Table, *, domain: str) -> dict[str, int]:
    """Version of every document of a table; one that is not whole, or of two versions, is an error."""
    parts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.drop_columns(["vector"]).to_pylist():
        parts[row["doc_id"]].append(row)
    found = {}
    for name, rows in parts.items():
        marks = {(row["doc_hash"], row["parts"], row["n_version"]) for row in rows}
        assert len(marks) == 1, f"{name} in {domain} is mixed of {marks}"
        ordinals = sorted(row["ordinal"] for row in rows)
        assert ordinals == list(range(rows[0]["parts"])), f"{name} in {domain} has parts {ordinals}"
        version = int(rows[0]["n_version"])
        text = text_of(name, version)
        for row in rows:
            assert row["content"].endswith(text[row["start"] : row["end"]]), f"{name} has a foreign text"
        found[name] = version
    return found


def check_answer(answer: dict[str, Any], seen: Seen, vectors: Vectors) -> None:
    """All hits are of the one generation that the answer names, in what they say and in how they score."""
    for domain, name, version, start, end, score in answer["hits"]:
        held = seen.contents.get(name)
        assert held == (domain, version), f"{answer} has {name} as {domain, version}, but it is {held}"
        if score is not None:
            expert = seen.experts[domain]
            text = text_of(name, version)[start:end]
            document = vectors.of([text], domain=domain, expert=expert)[0]
            query = vectors.of_query(answer["query"], domain=domain, expert=expert)
            assert abs(float(document @ query) - score) < CLOSE, f"{answer} scores {name} with another expert"
