"""`moeret bench`: every kind of index is measured on the store's own vectors, and nothing changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moe_retrieval.storage.index import build_index
from moe_retrieval.storage.indexes import lance_build
from moe_retrieval.storage.store import Store
from moe_retrieval.storage.tables.rows import Row, to_batch
from moe_retrieval.types import Chunk
from tests.program import run_moeret

if TYPE_CHECKING:
    from pathlib import Path

DIM = 16


def store_with(path: Path, domains: dict[str, int]) -> Store:
    """A store whose domains hold so many random vectors, with their indexes."""
    store = Store.open(path, create=True, durable=False)
    entries = {}
    for seed, (domain, rows) in enumerate(domains.items()):
        table = store.create_table(domain, dim=DIM, fingerprint="space-one")
        vectors = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        chunks = [Chunk(f"d{at}", "made", 0, 0, 4, "text") for at in range(rows)]
        if rows:
            lines = [Row(chunk, parts=1, doc_hash=1, metadata={}) for chunk in chunks]
            table.write(to_batch(lines, vectors))
        entries[domain] = table.entry(expert="general")
        build_index(store.view(entries[domain]), folder=store.indexes_dir, entry=entries[domain])
    store.catalog.publish(entries, model={"name": "none"}, created="2026-01-01T00:00:00+00:00")
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_with(tmp_path_factory.mktemp("bench") / "store", {"cvd": 1_200, "skin": 30, "empty": 0})


def state(store: Store) -> dict[str, tuple[int, int]]:
    files = [path for path in store.path.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_each_kind_of_both_engines_is_measured_and_nothing_changes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance_build, "_QUERIES", 5)
    before = state(store)
    done = run_moeret("bench", "--store", store.path, "-d", "cvd", "--queries", "10", "--json")
    assert done.code == 0, done.err
    found = done.records()
    kinds = {(one["engine"], one["kind"].partition(",")[0]) for one in found}
    assert {("faiss", "Flat"), ("faiss", "HNSW32"), ("lance", "exact"), ("lance", "IVF_RQ")} <= kinds
    assert any("RaBitQ" in one["kind"] for one in found)
    assert [one["kind"] for one in found if one["in_use"]] == ["Flat"]
    assert {one["domain"] for one in found} == {"cvd"}
    for one in found:
        assert one["rows"] == 1_200
        assert 0 < one["p50_ms"] <= one["p99_ms"]
        assert one["per_second"] > 0
    exact = [one for one in found if one["kind"] in {"Flat", "exact"}]
    assert [one["recall"] for one in exact] == [1.0, 1.0]
    assert state(store) == before


def test_a_table_is_shown_for_each_domain_that_holds_anything(store: Store) -> None:
    done = run_moeret("bench", "--store", store.path, "-d", "skin", "-d", "empty", "--queries", "5")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("skin: 30 chunks")
    assert "recall" in lines[1]
    assert [line.split()[1] for line in lines[2:]] == ["Flat", "SQ8", "exact"]
    assert "empty" not in done.out


def test_more_hits_than_there_are_chunks_are_no_reason_to_fail(store: Store) -> None:
    done = run_moeret("bench", "--store", store.path, "-d", "skin", "-k", "100", "--json")
    assert done.code == 0, done.err
    assert {one["recall"] for one in done.records() if one["kind"] == "Flat"} == {1.0}


def test_an_unknown_domain_and_an_empty_store_are_refused(store: Store, tmp_path: Path) -> None:
    done = run_moeret("bench", "--store", store.path, "-d", "cvdd")
    assert done.code == 3
    assert "cvd" in done.err
    store_with(tmp_path / "none", {"cvd": 0})
    done = run_moeret("bench", "--store", tmp_path / "none")
    assert done.code == 2
    assert "holds no vectors" in done.err
