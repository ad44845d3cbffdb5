"""`moeret doctor`: is everything as it should be?"""

from __future__ import annotations

import typer

from moeret_cli import options, render


def doctor(store: options.Store = None, json: options.Json = False) -> None:
    """Check versions, device, weights, settings and the store; every finding names its cure.

    Ends with exit code 1 if something is wrong.
    """
    from moe_retrieval.doctor import examine
    from moe_retrieval.settings import load_settings

    findings = examine(load_settings(store=store))
    for finding in findings if json else ():
        render.json_line(finding.to_dict())
    if not json:
        render.findings(findings)
    if any(finding.failed for finding in findings):
        raise typer.Exit(1)
