"""Which domains a text belongs to, with probabilities that mean what they say."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from moe_retrieval.errors import ChecksumError, ModelError, UsageError
from moe_retrieval.storage.durability import file_faults, write_atomically
from moe_retrieval.types import Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_HELD_OUT = 5  # every fifth document of a domain sets the temperature
_STRENGTH = 10.0  # inverse regularisation on unit vectors
_METADATA = "moeret_router"
_ENOUGH = 1e-9
_LINEAR_SHARE = 0.3
"""Weight of the classifier in the log probability; docs/quality.md says what either part does alone."""
_SHARPNESS = 20.0  # of the nearest cosines, where nothing is held out to fit it on
_ROWS = 512  # texts compared with all exemplars at a time


@dataclass(frozen=True, slots=True)
class Router:
    """A linear classifier and a nearest exemplar per domain, over vectors of the general expert.

    `weights` (domains, dim) and `bias` (domains,) give logits. `exemplars` (n, dim) are chunks, those of
    domain i from `starts[i]` on; the cosine of the nearest one of each domain is the second opinion. A
    classifier learns from chunks, and queries are no chunks: alone it was wrong on many queries that the
    nearest chunk places. The two are joined as a weighted geometric mean (a logarithmic opinion pool; Genest
    and Zidek, Statistical Science 1986), each and their sum scaled by a temperature fitted on held-out
    documents (Guo et al., ICML 2017): `linear` and `near` are what they are multiplied by.

    `marks` (n,) say which texts the exemplars are vectors of, and `space` under which fingerprint: who fits
    the next router need not encode these again. Empty: not known.
    """

    domains: tuple[str, ...]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    exemplars: NDArray[np.float32]
    starts: NDArray[np.int64]
    linear: float = _LINEAR_SHARE
    near: float = (1 - _LINEAR_SHARE) * _SHARPNESS
    marks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    space: str = ""

    @classmethod
    def fit(
        cls, vectors: NDArray[np.float32], labels: Sequence[str], *, groups: NDArray[np.int64], seed: int = 0
    ) -> Self:
        """Learn from vectors (n, dim) with their domains; `groups` are document keys, never split.

        Raises:
            UsageError: there is nothing to learn from, or the lengths differ.
        """
        if len(labels) == 0 or not len(labels) == len(vectors) == len(groups):
            raise UsageError(
                f"a router needs one label and one document key per vector, not "
                f"{len(labels)} and {len(groups)} for {len(vectors)} vectors",
                hint="index documents first",
            )
        domains = tuple(sorted(set(labels)))
        if len(domains) == 1:
            return cls(
                domains, np.zeros((1, vectors.shape[1])), np.zeros(1), *_exemplars(vectors[:1], np.zeros(1))
            )
        places = {domain: place for place, domain in enumerate(domains)}
        targets = np.array([places[label] for label in labels])
        held = _held_out(targets, groups, seed=seed)
        fitted = cls(domains, *_regression(vectors, targets), *_exemplars(vectors, targets))
        if held is None:
            return fitted
        known, seen = vectors[~held], targets[~held]
        trial = cls(domains, *_regression(known, seen), *_exemplars(known, seen))
        linear, near = trial._scales(vectors[held], targets[held])
        return replace(fitted, linear=linear, near=near)

    def remembering(self, marks: NDArray[np.int64], labels: Sequence[str], *, space: str) -> Self:
        """The same router, with the marks (n,) of the texts that it was fitted on, as they came."""
        order = np.argsort(np.array([self.domains.index(label) for label in labels]), kind="stable")
        return replace(self, marks=marks[order][: len(self.exemplars)], space=space)

    def _scales(self, vectors: NDArray[np.float32], targets: NDArray[np.int64]) -> tuple[float, float]:
        """What logits and cosines must be multiplied by to be as sure as they are right on these."""
        logits, cosines = self.logits(vectors), self.nearest(vectors)
        linear = _LINEAR_SHARE / _temperature(logits, targets)
        near = (1 - _LINEAR_SHARE) / _temperature(cosines, targets)
        joined = _temperature(linear * logits + near * cosines, targets)
        return linear / joined, near / joined

    def logits(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores (n, domains) of the classifier, before scaling and softmax."""
        scores: NDArray[np.float64] = np.atleast_2d(vectors).astype(np.float64) @ self.weights.T + self.bias
        return scores

    def nearest(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Cosine (n, domains) of the nearest exemplar of each domain."""
        texts = np.atleast_2d(vectors).astype(np.float32)
        parts = [texts[at : at + _ROWS] @ self.exemplars.T for at in range(0, len(texts), _ROWS)]
        best = [np.maximum.reduceat(part, self.starts, axis=1) for part in parts]
        return np.concatenate(best).astype(np.float64) if best else np.zeros((0, len(self.domains)))

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities (n, domains), in the order of `domains`; each row sums to one."""
        return np.exp(_log_softmax(self.linear * self.logits(vectors) + self.near * self.nearest(vectors)))

    def route(
        self, vector: NDArray[np.float32], *, mass: float = 0.9, at_most: int | None = None
    ) -> tuple[Route, ...]:
        """The fewest domains that together hold `mass` of the probability, best first, ties by name.

        Raises:
            UsageError: mass is not in (0, 1], or at_most is below one.
        """
        if not 0 < mass <= 1 or (at_most is not None and at_most < 1):
            raise UsageError(
                f"cannot route with mass {mass} and at_most {at_most}", hint="mass is above 0, up to 1"
            )
        chances = self.probabilities(vector)[0].tolist()
        ranked = sorted(zip(self.domains, chances, strict=True), key=lambda pair: (-pair[1], pair[0]))
        taken: list[Route] = []
        for domain, chance in ranked[:at_most]:
            taken.append(Route(domain, chance))
            if sum(route.probability for route in taken) >= mass - _ENOUGH:
                break
        return tuple(taken)

    def save(self, folder: Path) -> str:
        """Write `<folder>/<sha>.safetensors`, whole or not at all; returns the sha256 of its bytes."""
        data = self._to_bytes()
        sha = hashlib.sha256(data).hexdigest()
        with file_faults("store the router"):
            write_atomically(folder / f"{sha}.safetensors", data)
        return sha

    def _to_bytes(self) -> bytes:
        from safetensors.numpy import save

        scales = np.array([self.linear, self.near])
        tensors = {"weights": self.weights, "bias": self.bias, "starts": self.starts, "scales": scales}
        tensors |= {"marks": self.marks}
        # one key only: the order of several is not fixed, and the file is named by its bytes
        said = json.dumps({"format": 1, "domains": list(self.domains), "space": self.space}, sort_keys=True)
        contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
        contiguous["exemplars"] = np.ascontiguousarray(self.exemplars, np.float16)
        return bytes(save(contiguous, metadata={_METADATA: said}))

    @classmethod
    def load(cls, path: Path) -> Router:
        """Read a saved router.

        Raises:
            ChecksumError: the bytes are not those the file is named by.
            ModelError: the file cannot be read as a router.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"the router {path} cannot be read: {error.strerror}", hint="moeret index again"
            ) from error
        sha = hashlib.sha256(data).hexdigest()
        if sha != path.stem:
            raise ChecksumError(
                f"{path} has sha256 {sha[:12]}, not the one it is named by", hint="moeret index fits it again"
            )
        return cls._from_bytes(data, path)

    @classmethod
    def _from_bytes(cls, data: bytes, path: Path) -> Router:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            said = json.loads(header["__metadata__"][_METADATA])
            domains = tuple(str(domain) for domain in said["domains"])
            linear, near = tensors["scales"].tolist()
            exemplars = tensors["exemplars"].astype(np.float32)
            parts = (tensors["weights"], tensors["bias"], exemplars, tensors["starts"])
            marks = tensors.get("marks", np.zeros(0, np.int64))
            router = cls(domains, *parts, linear, near, marks, str(said.get("space", "")))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path} is not a router: {error}", hint="moeret index fits a new one"
            ) from error
        return router


def _held_out(
    targets: NDArray[np.int64], groups: NDArray[np.int64], *, seed: int
) -> NDArray[np.bool_] | None:
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


def _exemplars(
    vectors: NDArray[np.float32], targets: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors by domain, as precise as they are saved, and where each domain's begin."""
    order = np.argsort(targets, kind="stable")
    starts = np.unique(targets[order], return_index=True)[1].astype(np.int64)
    return vectors[order].astype(np.float16).astype(np.float32), starts


def _regression(
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


def _temperature(logits: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    """The divisor of the logits under which held-out labels are likeliest."""
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(targets))

    def loss(log_temperature: float) -> float:
        return -float(_log_softmax(logits / np.exp(log_temperature))[rows, targets].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x))


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    scores: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return scores
