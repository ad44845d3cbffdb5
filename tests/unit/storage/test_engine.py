"""What the engine raises has a name, a next step, and no path of its source."""

from __future__ import annotations

import pytest

from moe_retrieval.errors import (
    StoreConflictError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
)
from moe_retrieval.storage.engine import classify, engine_faults, plain

PLACE = ", /home/runner/work/lance/lance/rust/lance-io/src/local.rs:273:40"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("lance error: LanceError(IO): No space left on device (os error 28)", StoreFullError),
        ("Unable to open file: Permission denied (os error 13)", StoreReadOnlyError),
        ("LanceError(IO): Input/output error (os error 5)", StoreError),
        ("lance error: Retryable commit conflict for version 7", StoreConflictError),
        ("Incompatible transaction", StoreConflictError),
        ("Dataset at path x was not found: Not found: x", StoreCorruptError),
        ("Invalid range 0..0 for object of size 0 bytes", StoreCorruptError),
        ("something nobody has seen", StoreError),
    ],
)
def test_failures_are_told_apart(text: str, kind: type[StoreError]) -> None:
    with pytest.raises(kind) as caught, engine_faults("do it"):
        raise RuntimeError(text + PLACE)
    assert type(caught.value) is kind
    assert caught.value.message.startswith("could not do it: ")
    assert caught.value.hint
    assert ".rs" not in str(caught.value)


def test_a_long_engine_message_is_cut() -> None:
    assert len(classify(ValueError("x" * 10_000), doing="do it").message) < 250


def test_a_disk_that_reports_errors_is_named_as_the_cause() -> None:
    said = classify(RuntimeError("LanceError(IO): Input/output error (os error 5)"), doing="write")
    assert (said.message, said.hint) == (
        "could not write: input/output error",
        "check the disk and run it again",
    )


def test_of_a_message_of_faiss_only_what_it_means_is_kept() -> None:
    text = (
        "Error in void faiss::write_index_header(const Index*, IOWriter*) at /project/index_write.cpp:104: "
        "Error: 'ret == (1)' failed: write error in a.faiss"
    )
    assert plain(RuntimeError(text)) == "write error in a.faiss"


class Stopped(KeyboardInterrupt):
    """As a program raises it that tells its signals apart."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Stopped])
def test_ctrl_c_inside_the_engine_stays_ctrl_c(kind: type[KeyboardInterrupt]) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, engine_faults("read"):
        raise ValueError(f"External error: {kind.__name__}{PLACE}")
    assert type(caught.value) is kind


@pytest.mark.parametrize("text", ["no field named KeyboardInterrupt", "External error: lost connection"])
def test_what_only_reads_like_it_is_a_failure(text: str) -> None:
    with pytest.raises(StoreError), engine_faults("read"):
        raise ValueError(text)
