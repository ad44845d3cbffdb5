"""Files are whole or absent; failures of the disk have names."""

from __future__ import annotations

import errno
import multiprocessing
import os
from typing import TYPE_CHECKING

import pytest

from moe_retrieval.errors import StoreError, StoreFullError, StoreReadOnlyError
from moe_retrieval.storage.durability import file_faults, put_if_absent, sync_filesystem, write_atomically

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from pathlib import Path


def test_a_written_file_holds_the_bytes_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "a", b"one")
    write_atomically(tmp_path / "new" / "a", b"two")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "new").iterdir()] == [("a", b"two")]


def test_only_the_owner_may_read_what_was_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"one")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_the_second_to_put_a_file_is_told_and_changes_nothing(tmp_path: Path) -> None:
    assert put_if_absent(tmp_path / "a", b"first") is True
    assert put_if_absent(tmp_path / "a", b"second") is False
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"first")]


def test_of_many_processes_that_put_a_file_exactly_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    wins: Queue[bool] = context.Queue()
    racers = [context.Process(target=_race, args=(tmp_path / "a", str(n).encode(), wins)) for n in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(wins.get(timeout=5) for _ in racers) == [False, False, True]
    assert len(list(tmp_path.iterdir())) == 1


def _race(path: Path, data: bytes, wins: Queue[bool]) -> None:
    wins.put(put_if_absent(path, data))


def test_where_there_are_no_hard_links_a_file_is_still_put_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert put_if_absent(tmp_path / "a", b"first") is True
    assert put_if_absent(tmp_path / "a", b"second") is False
    assert (tmp_path / "a").read_bytes() == b"first"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, StoreFullError),
        (errno.EDQUOT, StoreFullError),
        (errno.EROFS, StoreReadOnlyError),
        (errno.EACCES, StoreReadOnlyError),
        (errno.EIO, StoreError),
    ],
)
def test_a_failing_disk_becomes_a_typed_error_that_says_what_to_do(code: int, kind: type[StoreError]) -> None:
    with pytest.raises(kind) as caught, file_faults("write the thing"):
        raise OSError(code, os.strerror(code), "/some/file")
    assert type(caught.value) is kind
    assert "write the thing" in caught.value.message
    assert caught.value.hint


def test_syncing_the_file_system_of_a_folder_works(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"one", durable=False)
    sync_filesystem(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"one"
