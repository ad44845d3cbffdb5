"""Batches hold every text once, within their budget; precision follows the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_retrieval.engines.batches import Budget, plan_batches
from moe_retrieval.engines.precision import cpu_has_bf16, pick_device, resolve_precision
from moe_retrieval.types import Precision

if TYPE_CHECKING:
    from pathlib import Path


@given(st.lists(st.integers(1, 300), max_size=100), st.integers(50, 1000), st.integers(1, 20))
def test_every_text_comes_once_within_the_budget(lengths: list[int], tokens: int, texts: int) -> None:
    batches = list(plan_batches(lengths, budget=Budget(tokens, texts)))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = max(lengths[place] for place in batch) * len(batch)
        assert len(batch) <= texts
        assert padded <= tokens or len(batch) == 1


@given(st.lists(st.integers(1, 300), max_size=100), st.sampled_from([1, 16]))
def test_memory_is_at_its_peak_with_the_first_batch(lengths: list[int], multiple: int) -> None:
    budget = Budget(900, 8, multiple)
    batches = plan_batches(lengths, budget=budget)
    sizes = [len(batch) * budget.padded(max(lengths[place] for place in batch)) for batch in batches]
    assert sizes == sorted(sizes, reverse=True)


@given(st.lists(st.integers(1, 300), max_size=100))
def test_texts_of_like_lengths_share_a_batch(lengths: list[int]) -> None:
    batches = [[lengths[place] for place in batch] for batch in plan_batches(lengths, budget=Budget(900, 8))]
    order = sorted(batches, key=lambda batch: (-batch[0], -batch[-1]))
    assert [length for batch in order for length in batch] == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("flags", "native"), [("fma avx2 avx512f", False), ("avx512_bf16", True), ("amx_bf16", True)]
)
def test_the_processors_flags_say_whether_bf16_is_native(tmp_path: Path, flags: str, native: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\nbugs : none\n")
    assert cpu_has_bf16(tmp_path / "cpuinfo") is native


def test_a_machine_that_says_nothing_computes_in_fp32(tmp_path: Path) -> None:
    assert not cpu_has_bf16(tmp_path / "nowhere")


def test_what_was_asked_for_is_what_is_used() -> None:
    assert resolve_precision(Precision.BF16, device="cpu") is Precision.BF16
    assert resolve_precision(Precision.FP32, device="cuda") is Precision.FP32
    assert pick_device("cuda:3") == "cuda:3"
