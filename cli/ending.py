"""One run of the program, and how it ends: every way out has its sentence and its exit code."""

from __future__ import annotations

import os
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from moe_retrieval.errors import MoeretError
from moeret_cli import interruption, render, verbs, wording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moeret_cli.interruption import Heard

RESUMES = "what was published is kept, the same command goes on from there"


def run() -> int:
    """Run the verb that the command line names; gives the exit code."""
    render.start()
    with interruption.heeding() as heard:
        code = _ended(heard)
        render.settle()
    return code


def _ended(heard: Heard) -> int:
    try:
        return _completed(heard)
    except MoeretError as error:
        render.error(error.message, next_step=error.hint)
        return error.exit_code
    except typer.TyperException as error:
        return _misused(error)
    except interruption.InterruptedRun:
        render.note(f"{heard.word}; {RESUMES}")
        return heard.exit_code
    except typer.Abort as abort:
        return _aborted(abort, heard)
    except Exception as error:  # noqa: BLE001 - the last resort: a sentence, where else a traceback would be
        return _unexpected(error)


def _completed(heard: Heard) -> int:
    """Typer gives back what `typer.Exit` carried, 130 for Ctrl-C, and None for a verb that ran through."""
    code: int | None = None
    with _heard_out():
        code = verbs.app(prog_name="moeret", standalone_mode=False)
        render.flush()
    if code == interruption.EXIT_CODE:
        render.note(heard.word)
        return heard.exit_code
    return code or 0


@contextmanager
def _heard_out() -> Iterator[None]:
    """A reader that has seen enough is no failure, as in: moeret query ... | head"""
    try:
        yield
    except BrokenPipeError:
        pass
    except SystemExit as ended:  # typer makes this of a broken pipe
        if not isinstance(ended.__context__, BrokenPipeError):
            raise


def _aborted(abort: typer.Abort, heard: Heard) -> int:
    """A question was answered with no, Ctrl-C or the end of input. Typer raises the same for any EOFError."""
    if isinstance(abort.__cause__, EOFError):
        return _unexpected(abort.__cause__)
    render.note("stopped; nothing was changed (--yes does not ask)")
    return heard.exit_code


def _misused(error: typer.TyperException) -> int:
    context: typer.Context | None = getattr(error, "ctx", None)
    if context and error.message == context.get_help():  # no word was given at all
        render.aside(error.message)
    else:
        next_step = f"{context.command_path} --help" if context else ""
        render.error(wording.misuse(error.format_message()), next_step=next_step)
    return error.exit_code


def _unexpected(error: Exception) -> int:
    from moe_retrieval.settings import DEBUG

    traced = render.verbose or os.environ.get(DEBUG)
    if traced:
        render.aside("".join(traceback.format_exception(error)))
    render.error(
        f"this should not have happened: {type(error).__name__}: {error}",
        next_step=f"please report it, with {'the traceback above' if traced else f'what {DEBUG}=1 shows'}",
    )
    return 1
