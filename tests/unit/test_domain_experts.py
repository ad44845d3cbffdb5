"""The nearest domain is the one whose texts are most alike."""

from __future__ import annotations

import numpy as np
import pytest

from moe_retrieval.domain_experts import nearest_domain
from moe_retrieval.errors import UsageError


def test_the_domain_with_the_most_similar_mean_is_nearest() -> None:
    near = np.array([[1.0, 0.1], [1.0, -0.1]], np.float32)
    far = np.array([[0.1, 1.0]], np.float32)
    assert nearest_domain(np.array([[2.0, 0.3]], np.float32), {"far": far, "near": near}) == "near"
    assert nearest_domain(far, {"b": near, "a": near}) == "a"


@pytest.mark.parametrize("by_domain", [{}, {"empty": np.zeros((0, 2), np.float32)}])
def test_nothing_to_compare_is_said(by_domain: dict[str, np.ndarray]) -> None:
    with pytest.raises(UsageError, match="no texts"):
        nearest_domain(np.ones((1, 2), np.float32), by_domain)
