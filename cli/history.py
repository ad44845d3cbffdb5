"""`moeret history`: the generations of a store."""

from __future__ import annotations

from moeret_cli import options, render
from moeret_cli import wording_generations as wording


def history(store: options.Store = None, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """List the generations of the store, newest last: what made each, what it holds, which one is live.

    `moeret rollback` goes back to one, `moeret gc` removes old ones.
    """
    found = options.open_store(quiet=quiet, store=store).history()
    for past in found if json else ():
        render.json_line(past.to_dict())
    if not json:
        render.table(wording.COLUMNS, [wording.row(past) for past in found])
