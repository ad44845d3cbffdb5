"""Hits in the order of a cross-encoder, which reads query and text together."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from moe_retrieval.errors import MissingExtraError, ModelError
from moe_retrieval.retrieval.refining.attempts import Outcome, attempt
from moe_retrieval.retrieval.refining.scaling import rescored

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from moe_retrieval.types import Hit

SECONDS = 10.0
"""What a reranker may take for one query, unless another time is asked for."""

BATCH = 16
"""Texts that a reranker is given at once; between two batches it is asked whether time is over."""


_HINT = "name the folder or the hub id of a cross-encoder"
_HUB_ID = re.compile(r"(\w[\w.\-]*/)?\w[\w.\-]*")


class Reranker(Protocol):
    """Anything that judges texts for a query."""

    def score(self, query: str, texts: Sequence[str]) -> Sequence[float] | np.ndarray:
        """How well each text answers the query; higher is better."""
        ...


class CrossEncoderReranker:
    """A cross-encoder of sentence-transformers (extra `st`), with one score per pair.

    Nogueira & Cho, "Passage Re-ranking with BERT", 2019.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    def load(cls, model: str | Path, *, device: str = "", max_length: int | None = None) -> Self:
        """From a folder or a hub id; weights must be safetensors, and code beside them is not run.

        Raises:
            MissingExtraError: sentence-transformers is not installed.
            ModelError: there is no such model, or it is none that scores pairs.
        """
        try:
            from sentence_transformers import CrossEncoder
        except ImportError as error:
            raise MissingExtraError("sentence-transformers", extra="st", purpose="reranking") from error
        from moe_retrieval.model.surgery import no_progress

        _check_place(str(model))
        options = {"model_kwargs": {"use_safetensors": True}, "max_length": max_length}
        try:
            with no_progress():
                loaded = CrossEncoder(str(model), device=device or None, **options)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            said = str(error).strip().partition("\n")[0]
            raise ModelError(f"the reranker {str(model)!r} cannot be loaded: {said}", hint=_HINT) from error
        if loaded.num_labels != 1:
            raise ModelError(
                f"the reranker {str(model)!r} gives {loaded.num_labels} scores per pair",
                hint="name a cross-encoder that was trained to rank: it gives one",
            )
        return cls(loaded)

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Scores, float32 (n,), under the model's own activation."""
        pairs = [(query, text) for text in texts]
        found = self._model.predict(pairs, batch_size=len(pairs), show_progress_bar=False)
        return np.asarray(found, np.float32)


def _check_place(model: str) -> None:
    """What cannot be a hub id must be the folder of a model; of others the library says what it misses."""
    folder = Path(model)
    if model and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"the folder {model} holds no reranker: it has no config.json", hint=_HINT)
    elif not _HUB_ID.fullmatch(model):
        raise ModelError(f"the reranker {model!r} is neither a folder nor a hub id", hint=_HINT)


def reranked(
    hits: Sequence[Hit],
    *,
    query: str,
    reranker: Reranker,
    seconds: float = SECONDS,
    batch: int = BATCH,
) -> Outcome[list[Hit]]:
    """The hits in the reranker's order, best first, under its scores; equals stay as they were.

    Where it fails, gives no finite score for a text, or takes longer than `seconds`, there is no value, and
    the problem says why.
    """
    if not hits:
        return Outcome([])
    texts = [read_text(hit) for hit in hits]
    order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))  # texts of a length share a batch

    def job(over: threading.Event) -> NDArray[np.float64]:
        scores = np.full(len(texts), np.nan)
        for start in range(0, len(order), batch):
            if over.is_set():
                break
            places = order[start : start + batch]
            scores[places] = _scores(reranker, query, [texts[at] for at in places])
        return scores

    found = attempt(job, seconds=seconds)
    if found.value is None:
        return Outcome(problem=f"the reranker {found.problem}")
    best = np.argsort(-found.value, kind="stable")
    return Outcome([_judged(hits[at], float(found.value[at])) for at in best])


def read_text(hit: Hit) -> str:
    """What the reranker reads of a hit: its title, unless the text begins with it, and the text."""
    return hit.text if not hit.title or hit.text.startswith(hit.title) else f"{hit.title}\n{hit.text}"


def _scores(reranker: Reranker, query: str, texts: Sequence[str]) -> NDArray[np.float64]:
    scores = np.asarray(reranker.score(query, texts), np.float64)
    if scores.shape != (len(texts),) or not np.isfinite(scores).all():
        raise ValueError(
            f"{len(texts)} texts got scores of shape {scores.shape}, or scores that are not finite"
        )
    return scores


def _judged(hit: Hit, score: float) -> Hit:
    fresh = rescored(hit, score)
    return replace(fresh, why=replace(fresh.why, rerank_score=score))
