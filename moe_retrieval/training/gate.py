"""The gate: an expert that is not better than what the domain has already is not accepted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from moe_retrieval.evaluation.intervals import PairedTest, paired_bootstrap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Verdict:
    """One domain's expert, judged on validation queries.

    `before` and `after`: mean nDCG@10 under the general expert and under the trained one; `test`: by how much
    the latter is above, query by query; `accepted`: the whole 95% interval lies above zero.
    """

    domain: str
    before: float
    after: float
    test: PairedTest
    accepted: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(domain: str, after: NDArray[np.float64], before: NDArray[np.float64], *, seed: int = 0) -> Verdict:
    """Compare two encoders on the same queries, nDCG@10 of each, (n,).

    Raises:
        UsageError: there are fewer than two queries.
    """
    test = paired_bootstrap(after, before, seed=seed)
    return Verdict(domain, float(before.mean()), float(after.mean()), test, test.low > 0)
