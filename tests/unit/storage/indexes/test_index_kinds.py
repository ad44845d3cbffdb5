"""Which kind of FAISS index is built, and that every kind keeps its promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from index_builders import COUNT, DIM, QUERIES, large_table, only, opened, recall, truth
from storage_builders import published, rows_of, unit_vectors

from moe_retrieval.errors import UsageError
from moe_retrieval.storage.index import build_index, wanted_engine
from moe_retrieval.storage.indexes import faiss_build, faiss_choice, faiss_index
from moe_retrieval.storage.indexes.faiss_choice import Kind, candidates
from moe_retrieval.storage.indexes.trial import Score, Trial
from moe_retrieval.storage.tables.rows import to_batch

if TYPE_CHECKING:
    from moe_retrieval.storage.store import Store
    from moe_retrieval.storage.tables.table import Table

KINDS = (
    "Flat",
    "SQ8",
    "HNSW32",
    "HNSW32,SQ8",
    "IVF16,Flat",
    "IVF16,SQ8",
    "IVF16,RaBitQ,Refine(SQ8)",
    "IVF16,RaBitQ,Refine(SQfp16)",
)


@pytest.fixture
def table(store: Store) -> Table:
    return large_table(store)


@pytest.mark.parametrize("factory", KINDS)
def test_every_kind_of_index_reaches_the_recall_it_reports(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    only(monkeypatch, factory)
    entry = published(store, table)
    info = build_index(store.view(entry), folder=store.indexes_dir, entry=entry, recall=0.95)
    assert info.factory == factory
    assert info.recall_at_10 is not None
    assert info.recall_at_10 >= 0.95
    searched = opened(store, entry)
    assert recall(searched.search(QUERIES, k=10), truth(store.view(entry))) >= 0.9
    assert len(searched.search(QUERIES[:1], k=COUNT + 50)[0].keys) == COUNT


@pytest.mark.parametrize("factory", KINDS)
def test_a_choice_of_keys_is_kept_to_and_used_up(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    only(monkeypatch, factory)
    monkeypatch.setattr(faiss_index, "_FEW_ALLOWED", 20)
    entry = published(store, table)
    view = store.view(entry)
    searched = opened(store, entry)
    for share in (0.0, 0.01, 0.3, 1.0):
        allowed = view.key_vh()[0][: int(share * COUNT)]
        found = searched.search(QUERIES, k=10, allowed=allowed)
        assert all(len(one.keys) == min(10, len(allowed)) for one in found), share
        assert np.isin(np.concatenate([one.keys for one in found]), allowed).all(), share
        assert recall(found, truth(view, allowed=allowed)) >= (0.9 if len(allowed) else 0.0), share


def blurred(store: Store) -> Table:
    """Vectors so close that eight bits per dimension cannot tell them apart."""
    close = unit_vectors(1, dim=DIM) + 3e-3 * unit_vectors(COUNT, dim=DIM, seed=9)
    close[0] = -close[0]  # so that the range of each dimension is wide, and eight bits of it are coarse
    close /= np.linalg.norm(close, axis=1, keepdims=True)
    table = store.create_table("copd", dim=DIM, fingerprint="space-one")
    table.write(to_batch([rows_of(f"c{at}", ["x"])[0] for at in range(COUNT)], close))
    return table


def test_vectors_that_compression_would_blur_are_kept_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_choice, "FLAT_ROWS", 100)
    entry = published(store, blurred(store))
    built: list[str] = []
    real = faiss_build.filled
    monkeypatch.setattr(
        faiss_build, "filled", lambda view, kind: (built.append(kind.factory), real(view, kind))[1]
    )
    assert build_index(store.view(entry), folder=store.indexes_dir, entry=entry).factory == "HNSW32"
    assert built == ["HNSW32"]


def test_a_recall_out_of_reach_is_said_and_not_tried_for_again(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "HNSW32")
    entry = published(store, table)
    view = store.view(entry)
    info = build_index(view, folder=store.indexes_dir, entry=entry, recall=1.01)
    assert "below 1.01" in info.notice
    monkeypatch.setattr(faiss_build, "filled", lambda *_: pytest.fail("built again"))
    build_index(view, folder=store.indexes_dir, entry=entry, recall=1.01)


def test_a_higher_recall_than_was_had_is_tried_for(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "IVF16,SQ8")
    entry = published(store, table)
    view = store.view(entry)
    low = build_index(view, folder=store.indexes_dir, entry=entry, recall=0.5)
    high = build_index(view, folder=store.indexes_dir, entry=entry, recall=0.95)
    assert low.recall_at_10 is not None
    assert high.recall_at_10 is not None
    assert low.recall_at_10 < 0.95 <= high.recall_at_10
    assert low.parameters["nprobe"] < high.parameters["nprobe"]


def test_the_rows_of_a_table_decide_what_is_built_first() -> None:
    first = {rows: candidates(rows, dim=384)[0].factory for rows in (10, 19_999, 20_000, 100_000, 1_000_000)}
    assert first == {
        10: "Flat",
        19_999: "Flat",
        20_000: "IVF512,SQ8",
        100_000: "IVF1024,SQ8",
        1_000_000: "IVF4096,SQ8",
    }
    assert [kind.family for kind in candidates(100_000, dim=384)][1:3] == ["HNSW32,SQ8", "HNSW32"]
    assert candidates(1_000_000, dim=384)[-1].factory == "HNSW32"


@pytest.mark.parametrize("rows", [5_000, 100_000, 1_000_000])
def test_memory_is_kept_to(rows: int) -> None:
    everything = candidates(rows, dim=384)
    for megabytes in (1, 10, 80, 400, 2_000):
        fitting = candidates(rows, dim=384, memory=megabytes * 10**6)
        assert set(fitting) <= set(everything)
        assert all(kind.memory(rows, 384) <= megabytes * 10**6 for kind in fitting)
    assert candidates(rows, dim=384, memory=1_000) == ()


def test_little_memory_means_bits_with_refinement() -> None:
    assert candidates(1_000_000, dim=384, memory=100 * 10**6)[0].family == "IVF,RaBitQ,Refine(SQ8)"
    assert candidates(10_000, dim=384, memory=5 * 10**6)[0].factory == "SQ8"


def test_the_size_that_is_reckoned_is_about_what_the_file_takes(
    store: Store, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    for factory in KINDS:
        only(monkeypatch, factory)
        entry = published(store, table)
        info = build_index(store.view(entry), folder=store.indexes_dir, entry=entry, recall=0.5)
        assert info.factory == factory
        assert info.bytes == pytest.approx(Kind(factory).size(COUNT, DIM), rel=0.2), factory


def test_where_no_kind_fits_lance_is_the_engine_unless_faiss_is_demanded(store: Store, table: Table) -> None:
    entry = published(store, table)
    view = store.view(entry)
    assert wanted_engine(COUNT, dim=DIM, memory=1_000) == "lance"
    assert wanted_engine(COUNT, dim=DIM, memory=10**6) == "faiss"
    assert wanted_engine(COUNT, dim=DIM, room=1_000) == "lance"
    assert wanted_engine(COUNT, dim=DIM, room=10**6) == "faiss"
    assert wanted_engine(COUNT, dim=DIM, room=10**6, engine="lance") == "lance"
    info = build_index(view, folder=store.indexes_dir, entry=entry, memory=1_000)
    assert (info.engine, info.factory) == ("lance", "exact")
    with pytest.raises(UsageError, match="no FAISS index of 1,500 rows fits"):
        build_index(view, folder=store.indexes_dir, entry=entry, memory=1_000, engine="faiss")


def test_another_kind_is_built_when_the_memory_allowed_changes(store: Store, table: Table) -> None:
    entry = published(store, table)
    view = store.view(entry)
    first = build_index(view, folder=store.indexes_dir, entry=entry, recall=0.9)
    second = build_index(view, folder=store.indexes_dir, entry=entry, recall=0.9, memory=50_000)
    assert (first.factory, second.factory) == ("Flat", "SQ8")
    assert opened(store, entry).info.factory == "SQ8"
    assert len(list(store.indexes_dir.iterdir())) == 3


def test_the_fastest_setting_that_reaches_the_recall_is_taken() -> None:
    slow, quick = Score({"nprobe": 1}, 0.99, 2.0), Score({"nprobe": 2}, 0.985, 1.0)
    short = Score({"nprobe": 3}, 0.9, 0.1)
    assert quick.beats(slow, recall=0.98)
    assert not short.beats(quick, recall=0.98)
    assert slow.beats(short, recall=0.98)
    assert slow.beats(quick, recall=0.999)


def test_the_least_effort_that_suffices_is_found_by_halving() -> None:
    trial = Trial(np.zeros(0, np.int64), np.zeros((0, 2), np.float32), ())
    tried: list[int] = []

    class Steps(Trial):
        def score(self, search: object, setting: object = None) -> Score:
            effort = setting["effort"]  # type: ignore[index]
            tried.append(effort)
            return Score({"effort": effort}, min(1.0, effort / 100), float(effort))

    steps = Steps(trial.own, trial.queries, trial.truth)
    ladder = [{"effort": effort} for effort in range(10, 200, 10)]
    found = steps.tune(lambda _: lambda _query, _k: np.zeros(0, np.int64), [ladder], recall=0.7)
    assert found.setting == {"effort": 70}
    assert len(tried) <= 5
