"""Where the program starts. Nothing else is imported before Ctrl-C is heeded."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn


def main() -> NoReturn:
    """Run the program and end the process with its exit code."""
    _leave(run())


def run() -> int:
    """Run the program; gives its exit code."""
    try:
        _read_names_as_utf8()
        from moeret_cli.ending import run as run_verb

        return run_verb()
    except KeyboardInterrupt:  # while modules were read; a verb that is interrupted ends there
        from moeret_cli.render import note

        note("interrupted")
        return 130


def _leave(code: int) -> NoReturn:
    """End the process as Python does, but do not take the interpreter apart.

    Threads of LanceDB may still be at work; one that wants Python meanwhile would abort the process.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or none: nobody reads it
            stream.flush()
    os._exit(code)


def _read_names_as_utf8() -> None:
    """Begin anew where the locale has Python read the names of files in another way than UTF-8.

    A document is known by the name of its file: that must not depend on who indexes it. What is shown stays
    in the encoding of the terminal.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    shown = sys.stdout.encoding if sys.stdout else "utf-8"
    os.execve(  # noqa: S606 - this very program
        sys.executable, sys.orig_argv, os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": shown}
    )
