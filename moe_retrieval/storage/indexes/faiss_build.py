"""Build a FAISS index over a table version: of the likeliest kind, its search effort by measured recall."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import UsageError
from moe_retrieval.hashing import verified_sha256
from moe_retrieval.storage.durability import cut_short, file_faults, replace_file, temporary_name
from moe_retrieval.storage.engine import engine_faults, faiss
from moe_retrieval.storage.found import TIE_MARGIN
from moe_retrieval.storage.indexes import faiss_choice, sidecar
from moe_retrieval.storage.indexes.faiss_choice import Kind, search_parameters
from moe_retrieval.storage.indexes.sidecar import Sidecar
from moe_retrieval.storage.indexes.slots import Slots
from moe_retrieval.storage.indexes.trial import Score, Trial
from moe_retrieval.storage.tables.rows import VECTOR, to_numpy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from moe_retrieval.storage.catalog import DomainEntry
    from moe_retrieval.storage.indexes.trial import Search, Setting
    from moe_retrieval.storage.tables.view import TableView

_POINTS_PER_LIST = 32
_TRAINING_ROUNDS = 6
_EXACT = Score({}, 1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Draft:
    """An index in memory, which rows its positions hold, and its description without checksums."""

    index: Any
    slots: Slots
    about: Sidecar


def build(view: TableView, *, entry: DomainEntry, recall: float, memory: int = 0) -> Draft:
    """An index over all rows of the view, within `memory` bytes (0: any).

    Its kind is the likeliest that reaches `recall` (recall@10 on stored vectors, against exact search). One
    that must strain for it is compared with the next, and the faster is taken; where none reaches it, the
    one that comes nearest.

    Raises:
        UsageError: no kind fits in so little memory.
    """
    kinds = faiss_choice.candidates(view.rows, dim=view.dim, memory=memory)
    if not kinds:
        raise UsageError(
            f"no FAISS index of {view.rows:,} rows fits in {memory / 1e6:,.0f} MB",
            hint="raise index_memory, or set index_engine = 'lance'",
        )
    return build_one_of(view, kinds, entry=entry, recall=recall)


def build_one_of(view: TableView, kinds: Sequence[Kind], *, entry: DomainEntry, recall: float) -> Draft:
    """The best index of these kinds, the likeliest first; see `build`."""
    slots = Slots.fresh(*view.key_vh())
    if kinds[0].factory == "Flat":
        return Draft(filled(view, kinds[0]), slots, describe(view, entry, kinds[0], _EXACT, recall=recall))
    trial = Trial.of(view)
    best, best_kind, best_score = None, kinds[-1], Score({}, -1.0, 0.0)
    for kind in kinds:
        if kind != kinds[-1] and kind.codec and not _precise(view, kind, trial, recall=recall):
            continue
        index = filled(view, kind)
        score = tuned(index, kind, slots, trial, recall=recall)
        if score.beats(best_score, recall=recall):
            best, best_kind, best_score = index, kind, score
        if best_score.recall >= recall and not best_kind.strained(best_score.setting):
            break
    return Draft(best, slots, describe(view, entry, best_kind, best_score, recall=recall))


def tuned(index: Any, kind: Kind, slots: Slots, trial: Trial, *, recall: float) -> Score:
    """How hard an index must look to reach the recall."""
    return trial.tune(lambda setting: searching(index, slots, setting), kind.ladders(), recall=recall)


def searching(index: Any, slots: Slots, setting: Setting) -> Search:
    """A plain search of an index, as deep as a real one looks, which passes over dead positions."""
    live = slots.offsets >= 0
    bits = None if live.all() else np.packbits(live, bitorder="little")
    selector = None if bits is None else faiss().IDSelectorBitmap(bits)
    parameters = search_parameters(setting, selector)

    def search(query: np.ndarray, k: int) -> np.ndarray:
        _, found = index.search(query, min(k + TIE_MARGIN, index.ntotal), params=parameters)
        held = (parameters, selector, bits, found[0])[3]  # the selector points into memory of `bits`
        return np.asarray(slots.keys[held[held >= 0]])

    return search


def filled(view: TableView, kind: Kind) -> Any:
    """An index of a kind that holds all rows of a view, in their order."""
    with engine_faults(f"build the index of table {view.name}"):
        index = faiss().index_factory(view.dim, kind.factory, faiss().METRIC_INNER_PRODUCT)
        if kind.lists:
            _shorten_training(index)
        if not index.is_trained:
            index.train(_sample(view, max(10_000, _POINTS_PER_LIST * kind.lists)))
        for batch in view.batches([VECTOR]):
            index.add(np.ascontiguousarray(to_numpy(batch[VECTOR])))
    return index


def describe(view: TableView, entry: DomainEntry, kind: Kind, score: Score, *, recall: float) -> Sidecar:
    """The side-car of a new index, without what its files will say."""
    return Sidecar(
        table=view.name,
        version=view.version,
        digest=entry.digest,
        fingerprint=entry.fingerprint,
        factory=kind.factory,
        library=str(faiss().__version__),
        rows=view.rows,
        dim=view.dim,
        parameters=dict(score.setting),
        recall_at_10=round(score.recall, 4),
        ms=round(score.ms, 4),
        file_sha256="",
        rows_sha256="",
        bytes=0,
        built=datetime.now(UTC).isoformat(timespec="seconds"),
        positions=view.rows,
        wanted=recall,
        layout=sidecar.LAYOUT,
    )


def store(folder: Path, draft: Draft) -> Sidecar:
    """Write index, rows and side-car, the side-car last, each in one step; the whole side-car comes back.

    The files of the domain's older contents go: the readers of a run's many generations each store one.
    """
    with file_faults("store the index"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{draft.about.name}{sidecar.INDEX}"
    rows = path.with_suffix(sidecar.ROWS)
    _write_index(draft.index, path)
    draft.slots.write(rows)
    with file_faults("store the index"):
        about = replace(
            draft.about,
            file_sha256=verified_sha256(path),
            rows_sha256=verified_sha256(rows),
            bytes=path.stat().st_size,
        )
    sidecar.write(folder, about)
    sidecar.remove_superseded(folder, by=about)
    return about


def repin(folder: Path, one: Sidecar, view: TableView) -> None:
    """Note where the rows of a stored index lie in another version of the same content.

    Else whoever opens it there has to read and to sort all keys first.
    """
    path = folder / f"{one.name}{sidecar.ROWS}"
    slots = Slots.read(path, sha256=one.rows_sha256, positions=one.positions, rows=one.rows)
    slots.moved(*view.key_vh()).write(path)
    with file_faults("store the index"):
        about = replace(one, version=view.version, rows_sha256=verified_sha256(path))
    sidecar.write(folder, about)


def _write_index(index: Any, path: Path) -> None:
    temporary = temporary_name(path)
    try:
        with engine_faults("store the index"):
            faiss().write_index(index, str(temporary))
        _refuse_torn(temporary)
        with file_faults("store the index"):
            replace_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_torn(path: Path) -> None:
    """FAISS does not look at how closing the file ended: on a full disk its last bytes are missing."""
    faiss().set_deserialization_vector_byte_limit(2 * path.stat().st_size + (1 << 26))
    try:
        faiss().read_index(str(path), faiss().IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise cut_short(path, doing="store the index") from error


def _shorten_training(index: Any) -> None:
    """Centroids of a sample are good enough early: more rounds cost minutes at a million rows."""
    inner = faiss().downcast_index(index.base_index) if hasattr(index, "base_index") else index
    inner.cp.niter = _TRAINING_ROUNDS
    inner.cp.min_points_per_centroid = 1  # it would say on stderr that it would like more


def _sample(view: TableView, size: int) -> np.ndarray:
    chosen = np.random.default_rng(0).choice(view.rows, size=min(size, view.rows), replace=False)
    return np.ascontiguousarray(view.vectors(np.sort(chosen)))


def _precise(view: TableView, kind: Kind, trial: Trial, *, recall: float) -> bool:
    """Whether compressed vectors allow the recall. Those of inverted lists are more precise than this says,
    for each list holds what differs from its centre.
    """
    slack = 0.01 if kind.lists and not kind.refined else 0.0
    return trial.ceiling(view, kind.codec) >= recall - slack
