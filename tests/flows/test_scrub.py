"""One bit flipped in any file that a generation needs: the scrub finds it, and FAISS is never given it.

Long form, a thousand flips: pytest -m slow tests/flows/test_scrub.py

Left out, because no generation needs them: `lock` and `readers/` (who is at work now), `_transactions/` and
`latest_version_hint.json` (no reader of a version needs them), and files of a table that no kept generation's
list names.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from moe_retrieval import Document, Moeret, Store
from moe_retrieval.model import surgery
from moe_retrieval.settings import Settings
from moe_retrieval.storage.index import open_index
from moe_retrieval.storage.maintenance.scrub import scrub
from moe_retrieval.storage.tables import sums
from tests.tiny_model import different

SHORT, LONG = 40, 1_000
DOMAINS = ("cvd", "skin")
LEFT_OUT = {"lock", "readers"}


def documents(domain: str, *, words: str) -> list[Document]:
    return [Document(f"{domain}{at}", f"{domain} {words} {at}", domain=domain) for at in range(24)]


@pytest.fixture(scope="module")
def original(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all kinds of files: two experts, one that waits, several generations, rows deleted."""
    folder = tmp_path_factory.mktemp("scrubbed")
    model = different(surgery.upcycle(tiny_model), "cvd", "later")
    packs = {name: folder / surgery.export_expert(model, name, folder) for name in ("cvd", "later")}
    with Moeret.open(folder / "store", settings=Settings(model=str(tiny_model))) as moeret:
        moeret.index_documents([*documents("cvd", words="heart"), *documents("skin", words="mole")])
        moeret.index_documents(documents("cvd", words="artery")[:2])
        moeret.register_expert("cvd", packs["cvd"])
        moeret.reindex()
        moeret.register_expert("later", packs["later"])
    return folder / "store"


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Store:
    shutil.copytree(original, tmp_path / "store")
    return Store.open(tmp_path / "store")


def needed(store: Store) -> list[str]:
    """The files that kept generations need, by their names in the store."""
    entries = [entry for one in store.catalog.history() for entry in one.domains.values()]
    listed = {name for entry in entries for name in sums.read(store.place, entry.sums).files}
    names = [path.relative_to(store.path) for path in store.path.rglob("*") if path.is_file()]
    kept = [name for name in names if name.parts[0] not in LEFT_OUT]
    return sorted(str(name) for name in kept if name.parts[0] != "tables" or str(name) in listed)


def flipped(data: bytes, chance: random.Random) -> bytes:
    at, bit = chance.randrange(len(data)), chance.randrange(8)
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """sha256 of every file that FAISS is given."""
    seen: list[str] = []
    read = faiss.read_index

    def watched(name: Any, *rest: Any) -> Any:
        seen.append(hashlib.sha256(Path(name).read_bytes()).hexdigest())
        return read(name, *rest)

    monkeypatch.setattr(faiss, "read_index", watched)
    return seen


def searched_rightly(store: Store) -> None:
    """Every domain finds each of its own vectors, by whatever is opened for it."""
    live = store.catalog.latest()
    assert live is not None
    for domain in DOMAINS:
        entry = live.domains[domain]
        view = store.view(entry)
        index = open_index(view, folder=store.indexes_dir, entry=entry, notify=lambda _said: None)
        found = index.search(view.vectors(), k=1)
        assert np.array_equal([one.keys[0] for one in found], view.key_vh()[0])


def put_back(original: Path, store: Store, name: str) -> None:
    shutil.copy(original / name, store.path / name)
    if name.startswith("indexes/"):  # it was built again, under the same name or another
        shutil.rmtree(store.indexes_dir)
        shutil.copytree(original / "indexes", store.indexes_dir)


def flips(store: Store, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Files, chosen uniformly, and their bytes with one bit, chosen uniformly, the other way."""
    chance, names = random.Random(seed), needed(store)
    for _ in range(count):
        name = chance.choice(names)
        yield name, flipped((store.path / name).read_bytes(), chance)


@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
def test_every_flipped_bit_is_found_and_no_flipped_index_is_searched(
    store: Store, original: Path, parsed: list[str], count: int
) -> None:
    assert scrub(store).damages == ()
    for name, data in flips(store, count, seed=count):
        (store.path / name).write_bytes(data)
        report = scrub(store)
        assert name in [damage.name for damage in report.damages], name
        if name.startswith("indexes/"):
            searched_rightly(store)
            assert hashlib.sha256(data).hexdigest() not in parsed, name
        put_back(original, store, name)
    assert scrub(store).damages == ()


def test_the_flips_reach_every_kind_of_file(store: Store) -> None:
    kinds = {"/".join(Path(name).parts[:1]) for name in needed(store)}
    assert kinds == {
        *("catalog", "experts", "indexes", "progress", "routers", "secret", "store.json", "tables")
    }
    parts = {Path(name).parts[2] for name in needed(store) if name.startswith("tables/")}
    assert parts == {"_deletions", "_indices", "_versions", "data"}
    suffixes = {Path(name).suffix for name in needed(store) if name.startswith(("indexes/", "experts/"))}
    assert suffixes >= {".faiss", ".npy", ".json", ".safetensors", ""}
