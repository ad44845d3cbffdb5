"""Checkpoints: only whole ones count, and what cannot be written is said in a sentence."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from safetensors import SafetensorError

from moe_retrieval.errors import StoreFullError
from moe_retrieval.training import checkpoints


def write(folder: Path, step: int, *, sealed: bool = True) -> Path:
    place = folder / f"checkpoint-{step}"
    place.mkdir()
    (place / "model.safetensors").write_bytes(b"weights")
    (place / "trainer_state.json").write_bytes(b"{}")
    if sealed:
        checkpoints.seal(place)
    return place


def test_the_last_whole_checkpoint_is_that_of_the_most_steps(tmp_path: Path) -> None:
    for step in (90, 100, 20):
        write(tmp_path, step)
    assert checkpoints.last_whole(tmp_path) == tmp_path / "checkpoint-100"


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_without_checkpoints_there_is_no_last_one(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    assert checkpoints.last_whole(tmp_path / folder) is None


def test_other_folders_are_no_checkpoints_and_stay(tmp_path: Path) -> None:
    for name in ("checkpoint-x", "checkpoint-1.bak", "runs"):
        (tmp_path / name).mkdir()
    checkpoints.remove_torn(tmp_path)
    assert checkpoints.last_whole(tmp_path) is None
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("hurt", ["unsealed", "missing", "short", "no seal"])
def test_a_torn_checkpoint_does_not_count_and_is_removed(tmp_path: Path, hurt: str) -> None:
    whole = write(tmp_path, 10)
    torn = write(tmp_path, 20, sealed=hurt != "unsealed")
    if hurt == "missing":
        (torn / "trainer_state.json").unlink()
    elif hurt == "short":
        (torn / "model.safetensors").write_bytes(b"weig")
    elif hurt == "no seal":
        (torn / "files.json").write_bytes(b'{"model.safe')
    assert checkpoints.last_whole(tmp_path) == whole
    checkpoints.remove_torn(tmp_path)
    assert list(tmp_path.iterdir()) == [whole]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file"),
    ],
    ids=["system", "safetensors", "torch"],
)
def test_whatever_says_that_the_disk_is_full_it_is_the_same_error(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(StoreFullError, match="could not be written to") as told,
        checkpoints.written_to(tmp_path),
    ):
        raise error
    assert str(tmp_path) in told.value.message
    assert "goes on from the last checkpoint" in told.value.hint


def test_an_error_of_the_training_is_no_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), checkpoints.written_to(tmp_path):
        raise RuntimeError("shapes do not fit")
