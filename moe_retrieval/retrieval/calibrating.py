"""Calibrate the domains of a store from their own texts, cheaply enough for every publishing."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_retrieval.calibration import Basis, DomainCalibration
from moe_retrieval.errors import UsageError
from moe_retrieval.storage.tables.rows import VECTOR, to_numpy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.store import Store

ASKED = 64
"""Chunks of a domain that are asked for their neighbours."""

SEEN = 2_048
"""Chunks, at most, that these are compared with."""

FEWEST = 20
"""Chunks of a domain that has any calibration by its texts."""


def calibration_of(
    generation: Generation, entries: Mapping[str, DomainEntry] | None = None
) -> dict[str, DomainCalibration]:
    """The calibrations of a generation that are of the vectors that it holds, or that `entries` hold."""
    known = {domain: DomainCalibration.from_dict(values) for domain, values in generation.calibration.items()}
    entries = generation.domains if entries is None else entries
    return {
        domain: one
        for domain, one in known.items()
        if domain in entries and one.fingerprint == entries[domain].fingerprint
    }


def in_use(generation: Generation) -> dict[str, DomainCalibration]:
    """What queries go by: as `calibration_of`, but what was fitted on texts is averaged over the domains of a
    space.

    Their cosines compare as they are. That the texts of one domain lie closer together than those of another
    must not change their order.
    """
    known, entries = calibration_of(generation), generation.domains
    parts: dict[str, list[DomainCalibration]] = defaultdict(list)
    for domain, one in known.items():
        if one.basis is Basis.STATISTICS and entries[domain].rows:
            parts[one.fingerprint].append(one)
    return {
        domain: _mean(one, parts[one.fingerprint]) if one.basis is Basis.STATISTICS else one
        for domain, one in known.items()
        if entries[domain].rows
    }


def _mean(own: DomainCalibration, parts: Sequence[DomainCalibration]) -> DomainCalibration:
    """The mean of their log-odds."""
    slope = math.fsum(one.slope for one in parts) / len(parts)
    intercept = math.fsum(one.intercept for one in parts) / len(parts)
    return replace(own, slope=slope, intercept=intercept)


def calibrated(
    store: Store, entries: Mapping[str, DomainEntry], *, live: Generation | None
) -> dict[str, DomainCalibration]:
    """A calibration per domain: the live one where it still serves, else one from the domain's own texts.

    One that was fitted on judged pairs serves as long as the vectors are made the same way, one that was
    fitted on texts as long as these are the same. A store of a single space needs none and gets no new one; a
    domain whose texts are too few is left out.
    """
    known = calibration_of(live, entries) if live else {}
    if len({entry.fingerprint for entry in entries.values() if entry.rows}) < 2:
        return known
    found = {domain: known.get(domain) for domain in entries}
    for domain, entry in entries.items():
        old = found[domain]
        if old is None or (old.basis is Basis.STATISTICS and old.digest != entry.digest):
            found[domain] = measured(store, entry)
    return {domain: one for domain, one in found.items() if one is not None}


def measured(store: Store, entry: DomainEntry) -> DomainCalibration | None:
    """The calibration of a domain by its own texts; None where they are too few or too alike."""
    if entry.rows < FEWEST:
        return None
    try:
        return DomainCalibration.from_statistics(
            sampled_cosines(store, entry), fingerprint=entry.fingerprint, digest=entry.digest
        )
    except UsageError:
        return None


def sampled_cosines(store: Store, entry: DomainEntry) -> NDArray[np.float32]:
    """Cosines (asked, seen) of some chunks of a domain with many; not a number inside one document."""
    rows = store.view(entry).take(_spread(entry.rows, SEEN), columns=[VECTOR, "doc_key"])
    vectors, documents = to_numpy(rows[VECTOR]), rows["doc_key"].to_numpy()
    asked = _spread(len(vectors), ASKED)
    cosines: NDArray[np.float32] = vectors[asked] @ vectors.T
    cosines[documents[asked][:, None] == documents] = np.nan
    return cosines


def _spread(rows: int, size: int) -> NDArray[np.int64]:
    """At most `size` places, evenly over `rows`: documents follow each other there, so many are met."""
    return np.unique(np.linspace(0, rows - 1, min(size, rows)).astype(np.int64))


def as_written(calibration: Mapping[str, DomainCalibration]) -> dict[str, dict[str, Any]]:
    """As a generation holds it."""
    return {domain: one.to_dict() for domain, one in sorted(calibration.items())}
