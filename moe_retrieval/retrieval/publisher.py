"""Make what was written visible: one generation for all domains, with its router and indexes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from moe_retrieval.calibration import Basis, Tuning
from moe_retrieval.errors import UnknownDomainError, UsageError
from moe_retrieval.retrieval.calibrating import as_written, calibrated, calibration_of
from moe_retrieval.retrieval.indexing import build_indexes
from moe_retrieval.retrieval.routing import fit_router

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_retrieval.calibration import DomainCalibration
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.retrieval.indexing import Indexing
    from moe_retrieval.storage.catalog import DomainEntry, Generation
    from moe_retrieval.storage.store import Store


def publish(
    store: Store,
    entries: Mapping[str, DomainEntry],
    *,
    live: Generation | None,
    encoder: Encoder,
    refit: bool,
    partial: bool = False,
    note: str = "",
    indexing: Indexing | None = None,
) -> Generation:
    """Publish a generation made of exactly these domains; `partial` marks one in the middle of a run.

    `refit` fits the router to what is stored now; else it is carried over (queries search a domain that the
    router does not know in any case). With `indexing`, every domain is given its search structure first: who
    sees the generation finds them there.
    """
    router = live.router if live else ""
    if refit:
        router = _fitted(store, entries, encoder, live)
    if indexing:
        build_indexes(store, entries, indexing=indexing)
    model = encoder.model_identity()
    known = _carried(live, entries) if partial else calibrated(store, entries, live=live)
    return _publish(
        store,
        entries,
        live=live,
        model=model,
        router=router,
        partial=partial,
        note=note,
        calibration=known,
        tuning=_tuning(live, entries),
    )


def uncalibrated(store: Store, live: Generation | None) -> bool:
    """Whether publishing would calibrate a domain that an older version of moeret left without."""
    if live is None:
        return False
    return calibrated(store, live.domains, live=live).keys() > calibration_of(live).keys()


def republish(
    store: Store, entries: Mapping[str, DomainEntry], *, live: Generation, note: str = ""
) -> Generation:
    """The live generation again with these entries: for changes that touch no vector."""
    return _publish(
        store,
        entries,
        live=live,
        model=live.model,
        router=live.router,
        partial=live.partial,
        note=note,
        calibration=_carried(live, entries),
        tuning=_tuning(live, entries),
    )


def retune(
    store: Store,
    *,
    live: Generation,
    calibration: Mapping[str, DomainCalibration] | None = None,
    tuning: Tuning | None = None,
    router: str | None = None,
    note: str = "tune",
) -> Generation:
    """The live generation again, with what was learnt from judged queries; None leaves what it has.

    `calibration` takes the place of the live one of its domains only. `router`: the name of a saved one.

    Raises:
        UnknownDomainError: a calibration is of a domain that the store does not hold.
        UsageError: a calibration is of other vectors than those of its domain.
    """
    for domain, one in (calibration or {}).items():
        _check_of_live(domain, one, live)
    return _publish(
        store,
        live.domains,
        live=live,
        model=live.model,
        router=live.router if router is None else router,
        partial=live.partial,
        note=note,
        calibration=_carried(live, live.domains) | dict(calibration or {}),
        tuning=_tuning(live, live.domains) if tuning is None else tuning,
    )


def _check_of_live(domain: str, calibration: DomainCalibration, live: Generation) -> None:
    if domain not in live.domains:
        raise UnknownDomainError(domain, live.domains)
    if calibration.fingerprint != live.domains[domain].fingerprint:
        raise UsageError(
            f"the calibration of domain {domain} is of other vectors than the store holds",
            hint="fit it on searches of the live generation: moeret tune FOLDER",
        )


def _carried(live: Generation | None, entries: Mapping[str, DomainEntry]) -> dict[str, DomainCalibration]:
    return calibration_of(live, entries) if live else {}


def _of_texts_that_are_there(
    calibration: Mapping[str, DomainCalibration], entries: Mapping[str, DomainEntry]
) -> dict[str, DomainCalibration]:
    """Less what was fitted to the texts of domains that have been emptied since."""
    return {
        domain: one
        for domain, one in calibration.items()
        if entries[domain].rows or one.basis is not Basis.STATISTICS
    }


def _tuning(live: Generation | None, entries: Mapping[str, DomainEntry]) -> Tuning:
    """What the live generation was tuned to, less the domains that are no more."""
    tuning = Tuning.from_dict(live.tuning if live else {})
    return replace(tuning, weights={name: one for name, one in tuning.weights.items() if name in entries})


def _fitted(
    store: Store, entries: Mapping[str, DomainEntry], encoder: Encoder, live: Generation | None
) -> str:
    """The name of a router fitted to what these entries hold; empty where they hold nothing."""
    router = fit_router(store, entries, encoder, live=live)
    if router is None:
        return ""
    name = router.save(store.routers_dir)
    store.place.share(f"routers/{name}.safetensors")
    return name


def _publish(
    store: Store,
    entries: Mapping[str, DomainEntry],
    *,
    live: Generation | None,
    model: Mapping[str, str],
    router: str,
    partial: bool,
    note: str,
    calibration: Mapping[str, DomainCalibration],
    tuning: Tuning,
) -> Generation:
    return store.catalog.publish(
        entries,
        model=model,
        router=router,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        partial=partial,
        note=note,
        calibration=as_written(_of_texts_that_are_there(calibration, entries)),
        tuning=tuning.to_dict() if tuning != Tuning() else {},
        after=live.number if live else 0,
    )
