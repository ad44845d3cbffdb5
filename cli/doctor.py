"""`moeret doctor`: is everything as it should be?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from moe_retrieval.errors import SettingsError
from moeret_cli import options, render

if TYPE_CHECKING:
    from moe_retrieval.doctor import Finding


def doctor(store: options.Store = None, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Check versions, device, weights, settings and the store; every finding names its cure.

    Ends with exit code 1 if something is wrong.
    """
    render.quiet = quiet
    findings = examined(store)
    for finding in findings if json else ():
        render.json_line(finding.to_dict())
    if not json:
        render.findings(findings)
    if any(finding.failed for finding in findings):
        raise typer.Exit(1)


def examined(store: str | None) -> list[Finding]:
    """All findings; where the settings cannot be read, that is the only one."""
    from moe_retrieval.doctor import Finding, examine
    from moe_retrieval.settings import load_settings

    try:
        settings = load_settings(store=store)
    except SettingsError as error:
        return [Finding("failed", "settings", error.message, error.hint)]
    return examine(settings)
