"""`moeret status`: what the store holds."""

from __future__ import annotations

from moeret_cli import options, render


def status(store: options.Store = None, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Show the live generation: domains, counts, experts, indexes with their measured recall."""
    moeret = options.open_store(quiet=quiet, store=store)
    found = moeret.status()
    if json:
        render.json_line(found.to_dict())
    else:
        render.status(found, wanted_recall=moeret.settings.recall)
