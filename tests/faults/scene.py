"""A small store, a corpus that has changed since, and what a run on it must come to."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from moe_retrieval import Moeret, Store
from moe_retrieval.settings import load_settings
from tests.program import Done, run_moeret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from moe_retrieval.storage.catalog import Generation

WORDS = "heart attack lung skin disease drug dose trial blood pressure cell worm malaria sun".split()  # noqa: SIM905
QUESTIONS = ("aspirin", "heart blood pressure", "malaria worm")


class StoredRow(NamedTuple):
    """One chunk as the store holds it."""

    chunk: str
    doc_hash: int
    parts: int
    vector: np.ndarray  # float32 (dim,)

    def like(self, other: StoredRow) -> bool:
        """Whether it is the same row, computed maybe in another batch."""
        return self[:3] == other[:3] and np.allclose(self.vector, other.vector, atol=1e-5)


Documents = dict[tuple[str, str], list[StoredRow]]
"""Rows of each document, by domain and document id."""

Answers = dict[str, list[tuple[str, float]]]
"""Chunks and scores, best first, by what was asked."""


@dataclass(frozen=True)
class Scene:
    """`base`: a store of the old corpus. `words`: by verb, the run that follows. `before`: what `base` holds;
    `after`: by verb, what the store must hold then, `answers`: what it must answer.
    """

    folder: Path
    base: Path
    words: Mapping[str, Sequence[str]]
    before: Documents
    after: Mapping[str, Documents]
    answers: Mapping[str, Answers]

    def copy(self, name: str) -> Path:
        """A store of its own, like `base`."""
        return shutil.copytree(self.base, self.folder / name)

    def command(self, verb: str, store: Path) -> list[str]:
        return [*self.words[verb], "--store", str(store)]


def make_scene(folder: Path, *, model: Path, other: Path) -> Scene:
    """Index a first corpus, then carry out each verb undisturbed, each on a copy."""
    corpus, base = folder / "corpus.jsonl", folder / "base"
    index = ["index", str(corpus), "--domain-field", "domain", "--prune"]
    words = {"index": index, "reindex": ["reindex", "--force"], "move": ["reindex", "--model", str(other)]}
    _write(corpus, _old())
    _succeed([*index, "--store", str(base), "--model", str(model)])
    _write(corpus, _new())
    before = documents(base)
    after, answers = {}, {}
    for verb, command in words.items():
        store = shutil.copytree(base, folder / f"undisturbed-{verb}")
        _succeed([*command, "--store", str(store)])
        after[verb], answers[verb] = documents(store), answered(store)
    return Scene(folder.resolve(), base.resolve(), words, before, after, answers)


def live(store: Path) -> Generation:
    """The newest generation."""
    found = Store.open(store).catalog.latest()
    assert found is not None
    return found


def documents(store: Path) -> Documents:
    """All that the newest generation of a store holds."""
    opened, found = Store.open(store), defaultdict(list)
    for domain, entry in live(store).domains.items():
        for batch in opened.view(entry).batches():
            for row in batch.to_pylist():
                vector = np.array(row["vector"], np.float32)
                stored = StoredRow(row["id"], row["doc_hash"], row["parts"], vector)
                found[domain, row["doc_id"]].append(stored)
    return {name: sorted(rows, key=lambda row: row.chunk) for name, rows in found.items()}


def answered(store: Path) -> Answers:
    """Chunks and scores for a few questions, asked in every mode."""
    with Moeret.open(store, settings=load_settings(k=5).values) as opened:
        return {
            f"{mode} {text}": [(hit.chunk_id, hit.score) for hit in opened.query(text, mode=mode).hits]
            for text in QUESTIONS
            for mode in ("vector", "text", "hybrid")
        }


def same_rows(one: list[StoredRow], other: list[StoredRow]) -> bool:
    return len(one) == len(other) and all(a.like(b) for a, b in zip(one, other, strict=True))


def assert_same(found: Documents, wanted: Documents) -> None:
    assert found.keys() == wanted.keys()
    assert [name for name, rows in found.items() if not same_rows(rows, wanted[name])] == []


def assert_nothing_lost(found: Documents, before: Documents, after: Documents) -> None:
    """Every document is as it was or as it is to be, and none is gone that is to stay, or there twice."""
    for name, rows in found.items():
        assert any(same_rows(rows, one[name]) for one in (before, after) if name in one), name
    ids = {doc for _, doc in found}
    stay = {doc for _, doc in before} & {doc for _, doc in after}
    assert stay <= ids


def assert_answers(found: Answers, wanted: Answers) -> None:
    for asked, hits in wanted.items():
        assert [chunk for chunk, _ in found[asked]] == [chunk for chunk, _ in hits], asked
        assert [score for _, score in found[asked]] == pytest.approx([score for _, score in hits], abs=1e-5)


def run_again(words: Sequence[str]) -> Done:
    """The same command, in this process, where no write fails."""
    return run_moeret(*words)


def _succeed(words: Sequence[str]) -> None:
    done = run_moeret(*words)
    assert done.code == 0, done.err


def _old() -> list[dict[str, object]]:
    return [
        {"_id": f"{domain}-{number}", "domain": domain, "text": _text(number + 5 * at), "year": 2000 + number}
        for at, domain in enumerate(("cvd", "skin"))
        for number in range(5)
    ]


def _new() -> list[dict[str, object]]:
    """Of the old documents one is gone, one changed, one moved; two are new, one of them in a new domain."""
    kept = [record for record in _old() if record["_id"] != "skin-4"]
    kept[0] |= {"text": _text(40) + " aspirin"}
    kept[1] |= {"domain": "skin"}
    fresh = {"_id": "cvd-9", "domain": "cvd", "text": "aspirin for the heart", "journal": "new field"}
    return [*kept, fresh, {"_id": "ntd-0", "domain": "ntd", "text": "malaria worm " + _text(3)}]


def _text(seed: int) -> str:
    return " ".join(WORDS[(seed * 7 + place * (seed % 5 + 1)) % len(WORDS)] for place in range(8 + seed))


def _write(path: Path, records: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
