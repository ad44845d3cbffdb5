"""`moeret cite`: are the citations of a context still what they were?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe_retrieval.errors import UsageError
from moeret_cli import options, render, wording_citing

if TYPE_CHECKING:
    from moe_retrieval.contexts import Context

app = typer.Typer(
    help="Check the citations of a context against their sources.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def root() -> None:
    """Check the citations of a context against their sources."""


@app.command()
def verify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What moeret context --json printed; - for standard input.")
    ],
    store: options.Store = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Slice every cited span again, from its source file and from the store, and say which changed.

    Ends with exit code 1 if a span has changed or is gone. The number in brackets is that of the citation.
    """
    contexts = read(file)
    moeret = options.open_store(quiet=quiet, store=store)
    verdicts = [verdict for context in contexts for verdict in moeret.verify_citations(context)]
    for verdict in verdicts:
        if json:
            render.json_line(verdict.to_dict())
        else:
            render.line(wording_citing.verdict(verdict))
    render.note(wording_citing.summary(verdicts))
    if not all(verdict.holds for verdict in verdicts):
        raise typer.Exit(1)


def read(file: Path) -> list[Context]:
    """The contexts of a file, or of standard input for `-`."""
    from moe_retrieval.retrieval.citations.cited import HINT, read_contexts

    piped = str(file) == "-"
    name = "standard input" if piped else str(file)
    try:
        data = options.stdin().read() if piped else file.read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}", hint=HINT) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not valid UTF-8: {error}", hint=HINT) from error
    return read_contexts(text, name=name)
