"""Learn a router's numbers: what to hold out, a classifier, exemplars, a temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.router_choice import log_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FOLDS = 5
_PLENTY = 2_000  # held-out documents; a 90% threshold read from them varies by 0.7 points
_STRENGTH = 10.0  # inverse regularisation on unit vectors
_LEARNT = 8_000  # rows of all domains that a classifier is fitted to; of the others it would learn little


def folds(targets: NDArray[np.int64], groups: NDArray[Any], *, seed: int = 0) -> NDArray[np.int64]:
    """Which fifth (n,) of its domain a row's document is of, 0 to 4; -1: the only one, never held out."""
    documents, firsts, places = np.unique(groups, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(documents))
    homes, found = targets[firsts][order], np.full(len(documents), -1)
    for domain in np.unique(homes):
        mine = order[homes == domain]
        found[mine] = np.arange(len(mine)) % _FOLDS if len(mine) > 1 else -1
    return found[places]


def held_out(targets: NDArray[np.int64], groups: NDArray[Any], *, seed: int) -> list[NDArray[np.bool_]]:
    """Rows of a fifth of each domain's documents, of another fifth, and so on until the documents are plenty.

    A large store needs one fold, a small one all five: temperature and thresholds from a fifth of few
    documents are mostly chance.
    """
    of, found = folds(targets, groups, seed=seed), []
    for fold in range(_FOLDS):
        held = of == fold
        if held.any() and len(np.unique(targets[~held])) == len(np.unique(targets)):
            found.append(held)
        if len(np.unique(groups[np.isin(of, range(fold + 1))])) >= _PLENTY:
            break
    return found


def first_of_each(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows that a classifier is fitted to: as many of each domain as there may be, the first ones."""
    domains = np.unique(targets)
    most = max(1, _LEARNT // len(domains))
    return np.concatenate([np.flatnonzero(targets == domain)[:most] for domain in domains])


def exemplars_of(
    vectors: NDArray[np.float32], targets: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors by domain, as precise as they are saved, and where each domain's begin."""
    order = np.argsort(targets, kind="stable")
    starts = np.unique(targets[order], return_index=True)[1].astype(np.int64)
    return vectors[order].astype(np.float16).astype(np.float32), starts


def regression(vectors: Any, targets: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (domains, dim) and bias of a multinomial logistic regression over unit vectors (n, dim), an
    array or a sparse matrix.
    """
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
