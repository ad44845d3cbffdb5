"""Where the program starts. Nothing else is imported before Ctrl-C is heeded."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the program and end the process with its exit code."""
    try:
        _read_names_as_utf8()
        from moeret_cli.ending import run

        code = run()
    except KeyboardInterrupt:  # while modules were read; a verb that is interrupted ends in `run`
        from moeret_cli.render import note

        note("interrupted")
        code = 130
    sys.exit(code)


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
