"""`moeret doctor`: is everything as it should be?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moe_retrieval.errors import SettingsError
from moeret_cli import bars, options, render, wording_doctor

if TYPE_CHECKING:
    from moe_retrieval.doctor import Examination, Finding

Scrub = Annotated[bool, typer.Option("--scrub", help="Read every byte of the store and compare checksums.")]
Repair = Annotated[
    bool, typer.Option("--repair", help="Make again what is derived: indexes, router, checksum lists.")
]
Sources = Annotated[
    bool, typer.Option("--sources", help="Read the source files again and say which documents changed.")
]


def doctor(
    store: options.Store = None,
    scrub: Scrub = False,
    repair: Repair = False,
    sources: Sources = False,
    wait: options.Wait = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check versions, device, weights, settings and the store; every finding names its cure.

    Ends with exit code 1 if something is wrong, after --repair if something still is.
    """
    from moe_retrieval.doctor import Examination

    render.quiet = quiet
    wanted = Examination(sources=sources, scrub=scrub, repair=repair)
    with bars.phase(wording_doctor.work(wanted)):
        findings = examined(store, wait=wait, wanted=wanted)
    for finding in findings if json else ():
        render.json_line(finding.to_dict())
    if not json:
        render.findings(findings)
        render.note(wording_doctor.summary(findings))
    if any(finding.failed for finding in findings):
        raise typer.Exit(1)


def examined(store: str | None, *, wait: float | None, wanted: Examination) -> list[Finding]:
    """All findings; where the settings cannot be read, that is the only one."""
    from moe_retrieval.doctor import Finding, examine
    from moe_retrieval.settings import load_settings

    try:
        settings = load_settings(store=store, lease_wait=wait)
    except SettingsError as error:
        return [Finding("failed", "settings", error.message, error.hint)]
    return examine(settings, wanted=wanted)
