"""Learn a router's numbers: what to hold out, a classifier, exemplars, a temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.router_choice import log_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HELD_OUT = 5  # every fifth document of a domain sets temperature and thresholds
_STRENGTH = 10.0  # inverse regularisation on unit vectors


def held_out(targets: NDArray[np.int64], groups: NDArray[np.int64], *, seed: int) -> NDArray[np.bool_] | None:
    """Rows of a fifth of each domain's documents; None when a domain has a single document."""
    generator = np.random.default_rng(seed)
    firsts = {int(group): int(target) for group, target in zip(groups[::-1], targets[::-1], strict=True)}
    chosen: list[int] = []
    for domain in range(int(targets.max()) + 1):
        documents = np.array(sorted(group for group, home in firsts.items() if home == domain))
        if len(documents) < 2:
            return None
        chosen.extend(generator.permutation(documents)[: max(1, len(documents) // _HELD_OUT)].tolist())
    held = np.isin(groups, chosen)
    enough = len(np.unique(targets[~held])) == int(targets.max()) + 1
    return held if enough else None


def exemplars_of(
    vectors: NDArray[np.float32], targets: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors by domain, as precise as they are saved, and where each domain's begin."""
    order = np.argsort(targets, kind="stable")
    starts = np.unique(targets[order], return_index=True)[1].astype(np.int64)
    return vectors[order].astype(np.float16).astype(np.float32), starts


def regression(
    vectors: NDArray[np.float32], targets: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (domains, dim) and bias of a multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # balanced: how many documents a domain has says little about how many queries are meant for it
    model: Any = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=1_000)
    with threadpool_limits(1):  # the matrices are small: beside other work two threads took ten times as long
        model.fit(vectors.astype(np.float64), targets)
    weights, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(weights) == 1:  # two domains: the library keeps the second one's logit only
        return np.vstack([np.zeros_like(weights), weights]), np.append(0.0, bias)
    return weights, bias


def temperature(logits: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    """The divisor of the logits under which held-out labels are likeliest."""
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(targets))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature))[rows, targets].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x))
