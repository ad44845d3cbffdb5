"""The hash of everything that decides what a vector of a domain is; two equal ones are one space."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class FingerprintParts:
    """What decides a domain's vectors. Precision does not belong here: it changes digits, not the space.

    `trunk` and `expert` are digests of tensors: the shared part, and the feed-forwards that compute this
    domain's texts, so an exact copy of an expert has the same fingerprint. `token_row` and `vocabulary` are
    what the domain adds to the trunk's embeddings; empty: nothing.
    """

    trunk: str
    expert: str
    tokenizer: str
    query_prompt: str
    document_prompt: str
    pooling: str
    max_length: int
    dim: int
    routing: str = "index"
    lower_case: bool = False
    normalized: bool = True
    token_row: str = ""
    vocabulary: str = ""


def domain_fingerprint(parts: FingerprintParts) -> str:
    """Hex sha256 of the parts as canonical JSON."""
    canonical = json.dumps(asdict(parts), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
