"""One writer at a time, and never a lock that outlives its holder."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import TYPE_CHECKING

import pytest

from moe_retrieval.errors import StoreBusyError
from moe_retrieval.storage.places.lease import hold

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event
    from pathlib import Path


def test_a_held_lease_names_its_holder(tmp_path: Path) -> None:
    with (
        hold(tmp_path / "lock"),
        pytest.raises(StoreBusyError, match=f"process {os.getpid()} on .*, since 2"),
        hold(tmp_path / "lock"),
    ):
        pass


def test_a_lease_is_free_again_after_the_block_even_if_it_failed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), hold(tmp_path / "lock"):
        raise KeyError
    with hold(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()


def test_the_lease_of_a_killed_process_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold_for_ever, args=(tmp_path / "lock", ready))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(StoreBusyError, match=f"process {holder.pid}"), hold(tmp_path / "lock"):
        pass
    os.kill(int(holder.pid or 0), signal.SIGKILL)
    holder.join()
    with hold(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()


def _hold_for_ever(lock: Path, ready: Event) -> None:
    with hold(lock):
        ready.set()
        signal.pause()
