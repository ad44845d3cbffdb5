"""Reranking: the order of a cross-encoder, and the order that was where it fails or takes too long."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from moe_retrieval.errors import MissingExtraError, ModelError
from moe_retrieval.retrieval.rerank import CrossEncoderReranker, read_text, reranked
from tests.tiny_model import build_tiny_cross_encoder
from tests.unit.retrieval.made_hits import made

HITS = [made(f"d{n}", f"heart attack {'risk ' * n}{n}", score=1 / (n + 1), rank=n + 1) for n in range(9)]


class ByLength:
    """Longer is better; remembers how many texts it was given at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        self.batches.append(len(texts))
        return [float(len(text)) for text in texts]


class Answering:
    """Gives what it was made with, whatever is asked."""

    def __init__(self, found: object) -> None:
        self.found = found

    def score(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found  # type: ignore[return-value]


class Hanging:
    def __init__(self) -> None:
        self.calls, self.free = 0, threading.Event()

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        self.calls += 1
        self.free.wait(30)
        return [0.0] * len(texts)


def test_hits_are_in_the_order_of_the_reranker_under_its_scores() -> None:
    reranker = ByLength()
    found = reranked(HITS, query="x", reranker=reranker, batch=4).value
    assert found is not None
    assert [hit.doc_id for hit in found] == [f"d{n}" for n in reversed(range(9))]
    assert [hit.score for hit in found] == [hit.why.rerank_score for hit in found]
    assert found[0].why.fused_score == pytest.approx(1 / 9)
    assert reranker.batches == [4, 4, 1]


def test_equals_stay_as_they_were() -> None:
    found = reranked(HITS[:3], query="x", reranker=Answering([0.5, 0.5, 0.5])).value
    assert [hit.doc_id for hit in found or []] == ["d0", "d1", "d2"]


@pytest.mark.parametrize(
    "answer",
    [RuntimeError("out of memory"), [0.1], [float("nan")] * 9, [[0.1, 0.2]] * 9, None, ["high"] * 9],
)
def test_a_reranker_that_fails_gives_no_order_but_a_reason(answer: object) -> None:
    found = reranked(HITS, query="x", reranker=Answering(answer))
    assert found.value is None
    assert found.problem.startswith("the reranker failed: ")


def test_a_reranker_that_hangs_is_not_waited_for_and_gets_no_second_batch() -> None:
    reranker = Hanging()
    found = reranked(HITS, query="x", reranker=reranker, seconds=0.1, batch=2)
    assert found.problem == "the reranker took longer than 0.1 s"
    reranker.free.set()
    for thread in threading.enumerate():
        if thread.name == "moeret-attempt":
            thread.join(10)
    assert reranker.calls == 1


def test_no_hits_are_not_judged() -> None:
    assert reranked([], query="x", reranker=Answering(RuntimeError())).value == []


def test_the_reranker_reads_the_title_once() -> None:
    assert read_text(made("a", "text", title="Title")) == "Title\ntext"
    assert read_text(made("a", "Title and text", title="Title")) == "Title and text"
    assert read_text(made("a", "text")) == "text"


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentence_transformers")
    return build_tiny_cross_encoder(tmp_path_factory.mktemp("cross") / "model")


def test_a_cross_encoder_gives_the_scores_that_sentence_transformers_gives(cross_encoder: Path) -> None:
    from sentence_transformers import CrossEncoder

    reranker = CrossEncoderReranker.load(cross_encoder)
    found = reranked(HITS, query="heart attack", reranker=reranker, batch=3).value
    pairs = [("heart attack", hit.text) for hit in HITS]
    expected = CrossEncoder(str(cross_encoder)).predict(pairs, show_progress_bar=False)
    assert np.ptp(expected) > 1e-4  # a model that tells the texts apart
    assert found is not None
    assert [hit.doc_id for hit in found] == [HITS[at].doc_id for at in np.argsort(-expected, kind="stable")]
    np.testing.assert_allclose([hit.score for hit in found], np.sort(expected)[::-1], atol=1e-5)


def test_loading_shows_nothing(cross_encoder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    CrossEncoderReranker.load(cross_encoder)
    assert capfd.readouterr() == ("", "")


def test_a_model_of_several_scores_is_no_reranker(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    folder = build_tiny_cross_encoder(tmp_path / "model", labels=3)
    with pytest.raises(ModelError, match="3 scores per pair"):
        CrossEncoderReranker.load(folder)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match="nowhere") as raised:
        CrossEncoderReranker.load(tmp_path / "nowhere")
    assert "cross-encoder" in raised.value.hint


@pytest.mark.parametrize("name", ["", "no such model", "../nowhere", "~/nowhere", "a/b/c"])
def test_what_can_be_no_model_is_said_so_before_anything_is_looked_up(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match="neither a folder nor a hub id"):
        CrossEncoderReranker.load(name)
    assert capfd.readouterr() == ("", "")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match=r"holds no reranker: it has no config\.json"):
        CrossEncoderReranker.load(tmp_path)


def test_weights_that_could_run_code_are_refused(cross_encoder: Path, tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file

    folder = Path(shutil.copytree(cross_encoder, tmp_path / "model"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        CrossEncoderReranker.load(folder)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match="sentence-transformers") as raised:
        CrossEncoderReranker.load(tmp_path)
    assert "moeret[st]" in raised.value.hint
