"""The file of a router: named arrays and a few words about them, in safetensors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.errors import ChecksumError, ModelError
from moe_retrieval.router_choice import Held
from moe_retrieval.router_queries import KnownQueries
from moe_retrieval.router_terms import TermClassifier, Terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Arrays = Mapping[str, np.ndarray]

_METADATA = "moeret_router"


def packed(arrays: Arrays, *, said: Mapping[str, Any]) -> bytes:
    """The bytes of a file; the same for the same content."""
    from safetensors.numpy import save

    # one key only: the order of several is not fixed, and the file is named by its bytes
    words = json.dumps({"format": 1, **said}, sort_keys=True)
    contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    return bytes(save(contiguous, metadata={_METADATA: words}))


def unpacked(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and words; whatever safetensors and json raise where these bytes are no router."""
    from safetensors.numpy import load

    arrays = load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return arrays, json.loads(header["__metadata__"][_METADATA])


def read_checked(path: Path) -> bytes:
    """The bytes of a file that is named by their sha256.

    Raises:
        ModelError: the file cannot be read.
        ChecksumError: the bytes are not those the file is named by.
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
    return data


def packed_held(held: Held, prefix: str) -> dict[str, np.ndarray]:
    """What was said of held-out texts, as arrays; none where there were none."""
    if not len(held.chances):
        return {}
    return {f"{prefix}.chances": held.chances, f"{prefix}.energies": held.energies}


def held_from(arrays: Arrays, prefix: str) -> Held:
    """What `packed_held` wrote. Older files have none."""
    none = np.zeros(0)
    return Held(arrays.get(f"{prefix}.chances", none), arrays.get(f"{prefix}.energies", none))


def packed_queries(known: KnownQueries, domains: Sequence[str]) -> dict[str, np.ndarray]:
    """Known questions as arrays, their domains as places among `domains`; none where there are none."""
    if not known.domains:
        return {}
    owners = np.array([domains.index(domain) for domain in known.domains], np.int64)
    return {
        "queries": known.vectors.astype(np.float16),
        "query_domains": owners,
        "query_scales": known.scales,
        "query_offsets": known.offsets,
        **packed_held(known.held, "queries"),
        **_packed_terms(known, domains),
    }


def _packed_terms(known: KnownQueries, domains: Sequence[str]) -> dict[str, np.ndarray]:
    """The questions' terms, and what a classifier learnt of them."""
    if not known.terms:
        return {}
    terms = {f"terms.{one.name}": getattr(known.terms, one.name) for one in fields(Terms)}
    if known.classifier is None:
        return terms
    learnt = {
        f"classifier.{one.name}": getattr(known.classifier, one.name)
        for one in fields(TermClassifier)
        if one.name != "domains"
    }
    learnt["classifier.coefficients"] = known.classifier.coefficients.astype(np.float16)
    owners = np.array([domains.index(domain) for domain in known.classifier.domains], np.int64)
    return {**terms, **learnt, "classifier.domains": owners}


def queries_from(arrays: Arrays, domains: Sequence[str]) -> KnownQueries:
    """What `packed_queries` wrote. Older files have none, or no pairs of words: then nothing is fitted."""
    if "queries" not in arrays:
        return KnownQueries()
    vectors = arrays["queries"].astype(np.float32)
    owners = tuple(domains[place] for place in arrays["query_domains"].tolist())
    if "words.starts" in arrays:
        return KnownQueries(vectors, owners)
    return KnownQueries(
        vectors,
        owners,
        _terms_from(arrays),
        _classifier_from(arrays, domains),
        arrays["query_scales"],
        arrays.get("query_offsets", np.zeros(len(domains))),
        held_from(arrays, "queries"),
    )


def _terms_from(arrays: Arrays) -> Terms:
    if "terms.starts" not in arrays:
        return Terms()
    return Terms(**{one.name: arrays[f"terms.{one.name}"] for one in fields(Terms)})


def _classifier_from(arrays: Arrays, domains: Sequence[str]) -> TermClassifier | None:
    if "classifier.domains" not in arrays:
        return None
    return TermClassifier(
        tuple(domains[place] for place in arrays["classifier.domains"].tolist()),
        arrays["classifier.buckets"],
        arrays["classifier.weights"],
        arrays["classifier.coefficients"].astype(np.float32),
        arrays["classifier.bias"],
        arrays["classifier.tried"],
    )
