"""What became of cited spans: each is sliced again from its source, and from the rows of the store."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from moe_retrieval.corpus.readers import read_corpus
from moe_retrieval.corpus.walking import is_file
from moe_retrieval.errors import MoeretError, NothingFoundError
from moe_retrieval.hashing import document_key
from moe_retrieval.retrieval.citations.spans import citation_key
from moe_retrieval.storage.maintenance.readers import hold_newest
from moe_retrieval.types import GENERAL, Document, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from moe_retrieval.contexts import Citation, Context
    from moe_retrieval.storage.catalog import Generation
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.view import TableView


class State(StrEnum):
    """What stands where a span was cited from.

    `same`: the cited text. `changed`: the document is there, and has another text at this place. `gone`: the
    document is not there. `unreadable`: it cannot be looked at. `unknown`: there is nothing to look at (a
    source that is no file, a table version that was given back).
    """

    SAME = "same"
    CHANGED = "changed"
    GONE = "gone"
    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one citation: in its source, in the live generation of the store, and in the table
    version that it was cited from. `intact`: its key and its length are those of its own fields. `note`: in
    words, where there is more to say.
    """

    number: int
    key: str
    domain: str
    doc_id: str
    source: str
    start: int
    end: int
    in_source: State
    in_store: State
    as_cited: State
    intact: bool
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether it says what its source says: nothing has changed or gone, and something was looked at."""
        seen = {self.in_source, self.in_store, self.as_cited}
        return self.intact and State.SAME in seen and seen <= {State.SAME, State.UNKNOWN}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"holds": self.holds}


class _Seen(NamedTuple):
    """What one place says of a span."""

    state: State
    note: str = ""


class _Row(NamedTuple):
    """A stored chunk: `text == document.text[start:end]`."""

    start: int
    end: int
    text: str


def verify_citations(store: Store, context: Context) -> tuple[Verdict, ...]:
    """A verdict for every citation. Sources are read again, each once, whatever their format; nothing is
    written.

    Raises:
        StoreError: rows cannot be read.
    """
    cited = context.citations
    sources = _in_sources(cited)
    newest = hold_newest(store.catalog)
    live, hold = newest if newest else (None, None)
    rows = _in_store(store, live, cited)
    then = _as_cited(store, _kept(store, context.generation), cited)
    if hold is not None:
        hold.close()
    return tuple(map(_verdict, cited, sources, rows, then))


def _verdict(one: Citation, in_source: _Seen, in_store: _Seen, as_cited: _Seen) -> Verdict:
    key = citation_key(one.domain, one.source, one.doc_id, one.start, one.end, one.text)
    intact = key == one.key and one.start >= 0 and one.end - one.start == len(one.text)
    notes = ["" if intact else "its fields do not fit its key", in_source.note, in_store.note]
    return Verdict(
        number=one.number,
        key=one.key,
        domain=one.domain,
        doc_id=one.doc_id,
        source=one.source,
        start=one.start,
        end=one.end,
        in_source=in_source.state,
        in_store=in_store.state,
        as_cited=as_cited.state,
        intact=intact,
        note="; ".join(filter(None, notes)),
    )


# --- the sources


def _in_sources(cited: Sequence[Citation]) -> list[_Seen]:
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    for one in cited:
        wanted[one.source].add(one.doc_id)
    texts = {source: _read_again(source, ids) for source, ids in wanted.items()}
    return [_sliced(one, texts[one.source]) for one in cited]


def _read_again(source: str, ids: set[str]) -> dict[str, str] | _Seen:
    """Texts of the wanted documents of a source as it is now, by id; or why there are none."""
    if not Path(source).is_absolute() or "\0" in source:
        return _Seen(State.UNKNOWN, "its source is no file")
    if not is_file(Path(source)):
        return _Seen(State.GONE, "its file is gone")
    found: dict[str, str] = {}
    reasons = []
    try:
        for item in read_corpus([source], domain=GENERAL, missing_ok=True):
            if isinstance(item, Document) and item.source == source and item.id in ids:
                found.setdefault(item.id, item.text)  # of two with one id the first counts, as when indexed
            elif isinstance(item, Rejected):
                reasons.append(item.reason)
            if len(found) == len(ids):
                break
    except MoeretError as error:
        return _Seen(State.UNREADABLE, error.message)
    return found if found or not reasons else _Seen(State.UNREADABLE, reasons[0])


def _sliced(one: Citation, texts: dict[str, str] | _Seen) -> _Seen:
    if isinstance(texts, _Seen):
        return texts
    if one.doc_id not in texts:
        return _Seen(State.GONE, "its document is no longer in its file")
    text = texts[one.doc_id]
    if one.start >= 0 and text[one.start : one.end] == one.text:
        return _Seen(State.SAME)
    return _Seen(State.CHANGED, _moved(one, text))


def _moved(one: Citation, text: str) -> str:
    """Where the cited text stands now: the first place of it, if there is one."""
    at = text.find(one.text) if one.text else -1
    if at < 0:
        return "its source no longer has this text"
    return f"in its source the text now stands at {at}-{at + len(one.text)}"


# --- the store


def _in_store(store: Store, live: Generation | None, cited: Sequence[Citation]) -> list[_Seen]:
    """As the live generation has them: in the cited domain, else in another that the document went to."""
    if live is None:
        return [_Seen(State.GONE, "the store is empty")] * len(cited)
    keys = {_key(one) for one in cited}
    rows = {name: _rows(store.view(entry), keys) for name, entry in live.domains.items() if entry.rows}
    return [_found(one, rows) for one in cited]


def _found(one: Citation, rows: Mapping[str, Mapping[int, list[_Row]]]) -> _Seen:
    key = _key(one)
    homes = [name for name in sorted(rows, key=lambda name: name != one.domain) if key in rows[name]]
    if not homes:
        return _Seen(State.GONE, "its document is not in the store")
    note = "" if homes[0] == one.domain else f"its document is now in domain {homes[0]}"
    return _Seen(_covered(one, rows[homes[0]][key]), note)


def _as_cited(store: Store, then: Generation | None, cited: Sequence[Citation]) -> list[_Seen]:
    """As the cited table versions have them."""
    known = {(entry.table, entry.version): entry for entry in then.domains.values()} if then else {}
    wanted: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
    for one in cited:
        wanted[one.table, one.version].add(_key(one))
    rows = {name: _rows(store.view(known[name]), keys) for name, keys in wanted.items() if name in known}
    return [_then(one, rows.get((one.table, one.version))) for one in cited]


def _then(one: Citation, rows: Mapping[int, list[_Row]] | None) -> _Seen:
    if rows is None:
        return _Seen(State.UNKNOWN)
    return _Seen(_covered(one, rows[_key(one)]) if _key(one) in rows else State.GONE)


def _kept(store: Store, generation: int) -> Generation | None:
    """A generation, unless it was given back."""
    try:
        return store.catalog.read(generation)
    except NothingFoundError:
        return None


def _rows(view: TableView, documents: Iterable[int]) -> dict[int, list[_Row]]:
    """Chunks of documents by document key, in reading order."""
    wanted = np.fromiter(documents, np.int64)
    parts = [
        batch["key"].to_numpy()[np.isin(batch["doc_key"].to_numpy(), wanted)]
        for batch in view.batches(["key", "doc_key"])
    ]
    keys = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    found: defaultdict[int, list[_Row]] = defaultdict(list)
    if len(keys):
        for row in view.fetch(keys, columns=("doc_key", "start", "end", "lead", "content")).to_pylist():
            text = row["content"][row["lead"] :]
            found[row["doc_key"]].append(_Row(row["start"], row["end"], text))
    return {document: sorted(rows) for document, rows in found.items()}


def _covered(one: Citation, rows: Sequence[_Row]) -> State:
    """Whether the chunks say what the citation says; what none of them holds can only be white space."""
    left = list(one.text)
    for row in rows:
        low, high = max(one.start, row.start), min(one.end, row.end)
        if low >= high:
            continue
        there = one.text[low - one.start : high - one.start]
        if there != row.text[low - row.start : high - row.start]:
            return State.CHANGED
        left[low - one.start : high - one.start] = " " * len(there)
    whole = bool(one.text) and "".join(left).isspace() and left != list(one.text)
    return State.SAME if whole else State.CHANGED


def _key(one: Citation) -> int:
    return document_key(one.source, one.doc_id)
